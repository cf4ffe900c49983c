"""Messages of the runtime. The first message imports `logging`, not the first load of an engine."""

import sys


def log(level: str, text: str, *values: object) -> None:
    """Gives a message to the logger `bessemer.runtime`; `level` is debug, info or warning.

    Where nobody has imported `logging`, nobody has asked to hear less than warnings.
    """
    if level != "warning" and "logging" not in sys.modules:
        return
    import logging

    getattr(logging.getLogger("bessemer.runtime"), level)(text, *values, stacklevel=2)
