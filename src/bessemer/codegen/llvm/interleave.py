"""Puts straight-line LLVM text in another order: chains of instructions side by side."""

import re
from collections.abc import Sequence

_NAME = re.compile(r"%[\w.]+")
_DEFINITION = re.compile(r"\s*(%[\w.]+) = ")


def interleaved(parts: Sequence[list[str]]) -> list[str]:
    """The lines of the parts in turn, each behind those that it uses.

    The lines of a part keep their order, so it may read memory that it wrote, but none that another
    one writes. Parts with branches stay one behind the other. LLVM keeps the order of long
    formulas, and a core that waits for one chain of a hundred cycles looks only three chains ahead.
    """
    if any(_is_control(line) for part in parts for line in part):
        return [line for part in parts for line in part]
    missing = {name for part in parts for line in part if (name := _defined(line))}
    waiting = [list(reversed(part)) for part in parts if part]
    result: list[str] = []
    while waiting:
        for part in waiting:
            name = _defined(part[-1])
            if all(used == name or used not in missing for used in _NAME.findall(part[-1])):
                result.append(part.pop())
                missing.discard(name)
        waiting = [part for part in waiting if part]
    return result


def _defined(line: str) -> str:
    """The value that an instruction gives, or nothing."""
    found = _DEFINITION.match(line)
    return found[1] if found else ""


def _is_control(line: str) -> bool:
    return line.endswith(":") or line.lstrip().startswith("br ")
