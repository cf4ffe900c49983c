"""Loads engines from files."""

from pathlib import Path

import numpy as np

from bessemer.core.errors import EngineFormatError, TargetError
from bessemer.engine.file import read_engine
from bessemer.runtime.constants import Constants
from bessemer.runtime.engine import Engine


def load(path: str | Path) -> Engine:
    """The engine of a file, ready to run on this machine. Needs no compiler; constants are mapped.

    Raises: EngineFormatError for a missing, damaged or newer file, TargetError if none of its
    variants fits this machine.
    """
    data = read_engine(path)
    blob = data.constants[0][1] if data.constants else np.empty(0, np.uint8)
    try:
        return Engine(data, Constants(blob))
    except (EngineFormatError, TargetError) as error:
        raise type(error)(f"{path}: {error}") from error
