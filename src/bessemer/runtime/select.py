"""Chooses the machine-code variant that fits this machine best."""

from collections.abc import Mapping

from bessemer.core.errors import EngineFormatError, TargetError
from bessemer.runtime.cpu import machine, missing_features
from bessemer.runtime.elf import MACHINES, elf_machine


def variant_machine(objects: tuple[bytes, ...]) -> str:
    """The architecture of a variant's objects. Raises: EngineFormatError if they differ."""
    names = {MACHINES.get(elf_machine(content), "unknown") for content in objects}
    if len(names) > 1:
        raise EngineFormatError(f"one variant mixes the architectures {sorted(names)}")
    return names.pop() if names else ""


def choose_variant(
    name: str, objects: Mapping[str, tuple[bytes, ...]], requires: Mapping[str, tuple[str, ...]]
) -> str | None:
    """The usable variant that needs most features (the first of equals); None if there are none.

    Raises: TargetError saying what the engine holds and what this machine is.
    """
    held = []
    usable: list[tuple[int, str]] = []
    for variant, parts in objects.items():
        built_for = variant_machine(parts)
        needed = requires.get(variant, ())
        lacking = missing_features(needed) if built_for == machine() else []
        if built_for in ("", machine()) and not lacking:
            usable.append((len(needed), variant))
        reason = f", which lacks {' '.join(lacking)}" if lacking else ""
        needs = f" with {' '.join(needed)}" if needed else ""
        held.append(f"{variant} for {built_for}{needs}{reason}")
    if usable:
        return max(usable, key=lambda entry: entry[0])[1]
    if not objects:
        return None
    raise TargetError(
        f"engine {name!r} does not fit this machine ({machine()}): it holds {'; '.join(held)}; "
        f"build it for this machine or for a target with fewer features"
    )
