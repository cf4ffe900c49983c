"""Options that all tests share."""

import os

from hypothesis import settings

# Timings must decide no test; those of tuning ask for it by name.
os.environ.setdefault("BESSEMER_TUNE", "none")

# The same examples in every run: a failure in CI is a failure anywhere.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")


def pytest_addoption(parser):
    parser.addoption(
        "--update-snapshots", action="store_true", help="rewrite expected texts with what was found"
    )
