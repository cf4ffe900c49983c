"""Opens what the user names: an engine file is loaded, a model is built."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bessemer.cli.console import progress_bar

if TYPE_CHECKING:
    from bessemer.engine.plan import EngineData
    from bessemer.runtime.engine import Engine


def is_engine_file(path: Path) -> bool:
    """True if the file starts like an engine, or is named like one. A missing file is no engine."""
    from bessemer.engine.file import MAGIC

    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC or path.suffix == ".plan"
    except OSError:
        return path.suffix == ".plan"


def open_engine(path: Path, **options: Any) -> "Engine":  # Any: arguments of build
    """The engine in a file, or built from a model with these options (shown as progress).

    Options that are None are left to the defaults; a loaded engine keeps those it was built with.
    """
    from bessemer.runtime.load import load

    if is_engine_file(path):
        return load(path)
    from bessemer.compiler.build import build

    given = {name: value for name, value in options.items() if value is not None}
    with progress_bar("build") as on_progress:
        return build(path, on_progress=on_progress, **given)


def runnable_variant(data: "EngineData") -> str | None:
    """The variant of an engine that this machine would run; None if there is none."""
    from bessemer.core.errors import TargetError
    from bessemer.runtime.select import choose_variant

    try:
        return choose_variant(data.plan.name, data.objects, data.requires)
    except TargetError:
        return None
