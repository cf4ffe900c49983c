"""Options that all tests share."""

from hypothesis import settings

# The same examples in every run: a failure in CI is a failure anywhere.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")


def pytest_addoption(parser):
    parser.addoption(
        "--update-snapshots", action="store_true", help="rewrite expected texts with what was found"
    )
