"""Options that all tests share."""


def pytest_addoption(parser):
    parser.addoption(
        "--update-snapshots", action="store_true", help="rewrite expected texts with what was found"
    )
