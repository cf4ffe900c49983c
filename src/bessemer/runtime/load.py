"""Loads engines from files."""

import os

import numpy as np

from bessemer.core.errors import EngineFormatError, TargetError
from bessemer.engine.file import open_engine
from bessemer.runtime.constants import Constants
from bessemer.runtime.engine import Engine


def load(path: str | os.PathLike[str]) -> Engine:
    """The engine of a file, ready to run on this machine. Needs no compiler; constants are mapped.

    Constants of more than 16 MiB are checked in the background. The first run waits for that, and
    raises if they are damaged; `Engine.verify` does so at any time.

    Raises: EngineFormatError for a missing, damaged or newer file, TargetError if none of its
    variants fits this machine.
    """
    data, verify = open_engine(path)
    blob = data.constants[0][1] if data.constants else np.empty(0, np.uint8)
    try:
        return Engine(data, Constants(blob, check=verify))
    except (EngineFormatError, TargetError) as error:
        raise type(error)(f"{path}: {error}") from error
