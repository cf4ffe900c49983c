"""`python -m bessemer` is the same program as `bessemer`."""

import sys

from bessemer.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
