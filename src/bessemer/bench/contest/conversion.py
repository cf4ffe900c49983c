"""Runs the converters of other runtimes, which are programs of their own."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bessemer.core.errors import MissingExtraError, ModelFormatError

_LIMIT_S = 900
_SHOWN = 300


def find_program(name: str) -> Path:
    """A program beside this Python, else on the path. Raises: MissingExtraError."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise MissingExtraError(f"the converter {name!r} is not installed")
    return Path(found)


def convert(command: Sequence[str | Path], target: Path, folder: Path) -> None:
    """Runs a converter in `folder`; `target` is the file that it makes.

    Raises: ModelFormatError, with the end of what it wrote.
    """
    target.unlink(missing_ok=True)
    done = subprocess.run(
        list(map(str, command)), cwd=folder, timeout=_LIMIT_S, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
    )
    if not target.exists():
        name = Path(command[0]).name
        raise ModelFormatError(
            f"{target}: {name} ended with {done.returncode} and made no model: "
            f"{done.stdout.strip()[-_SHOWN:]}"
        )
