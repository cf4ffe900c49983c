"""All settings that come from the environment; the only place that reads `os.environ`."""

import os
from collections.abc import Callable, Mapping
from dataclasses import field, fields
from typing import TYPE_CHECKING, Any

from bessemer.core.errors import SettingsError
from bessemer.core.frozen import dataclass

if TYPE_CHECKING:
    from pathlib import Path

PREFIX = "BESSEMER_"


def _integer(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ValueError("is not an integer") from None
        if not low <= value <= high:
            raise ValueError(f"is not between {low} and {high}")
        return value

    return read


def _flag(text: str) -> bool:
    known = {"1": True, "true": True, "yes": True, "on": True,
             "0": False, "false": False, "no": False, "off": False}
    if text.lower() not in known:
        raise ValueError("is not one of 0, 1, true, false, yes, no, on, off")
    return known[text.lower()]


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"is not one of {', '.join(words)}")
        return text

    return read


def _path(text: str) -> "Path":
    from pathlib import Path  # not needed to load an engine, which a process may do first of all

    return Path(text).expanduser()


def _meta(read: Callable[[str], Any], help_text: str) -> dict[str, Any]:
    return {"read": read, "help": help_text}


@dataclass(frozen=True)
class Settings:
    """Settings by field; the environment variable is `BESSEMER_` and the name in capitals."""

    threads: int | None = field(
        default=None,
        metadata=_meta(_integer(1, 256), "threads to run on; default: the CPUs we may use"),
    )
    jobs: int | None = field(
        default=None,
        metadata=_meta(_integer(1, 256), "processes that compile kernels; default: as threads"),
    )
    cache_dir: "Path | None" = field(
        default=None,
        metadata={**_meta(_path, "folder of compiled kernels and tuning records; default: bessemer "
                          "in XDG_CACHE_HOME or ~/.cache"), "in_effect": "cache_folder"},
    )
    cache: bool = field(
        default=True, metadata=_meta(_flag, "0 turns the cache of compiled kernels off")
    )
    records: "Path | None" = field(
        default=None,
        metadata=_meta(_path, "file of tuning records; default: tuning.sqlite in the cache folder"),
    )
    tune: str | None = field(
        default=None,
        metadata=_meta(_one_of("none", "default", "max"),
                       "how builds that do not say choose schedules: none, default or max"),
    )
    target: str | None = field(
        default=None, metadata=_meta(str, "target of builds that name none; default: this machine")
    )
    debug: int = field(
        default=0, metadata=_meta(_integer(0, 5), "how much is logged and dumped, 0 to 5")
    )
    dump_dir: "Path | None" = field(
        default=None, metadata=_meta(_path, "folder that receives the stages of every build")
    )
    barrier_spins: int = field(
        default=2000,
        metadata=_meta(_integer(0, 1 << 30), "turns that a barrier spins before it sleeps"),
    )
    idle_spins: int = field(
        default=3000,
        metadata=_meta(_integer(0, 1 << 30), "turns that an idle worker spins before it sleeps"),
    )
    specialise: bool = field(
        default=True,
        metadata=_meta(_flag, "0 keeps engines with symbolic shapes from building variants"),
    )
    specialise_after: int = field(
        default=3,
        metadata=_meta(_integer(0, 1 << 30), "runs of one shape after which it gets a variant"),
    )
    max_variants: int = field(
        default=4,
        metadata=_meta(_integer(0, 1024), "variants for single shapes that an engine may hold"),
    )

    @property
    def cache_folder(self) -> "Path":
        """The folder of `cache_dir`, or the default one."""
        base = os.environ.get("XDG_CACHE_HOME", "") or "~/.cache"
        return self.cache_dir or _path(base) / "bessemer"


def read_settings(environment: Mapping[str, str]) -> Settings:
    """The settings of that environment; empty variables count as absent.

    Raises: SettingsError naming the variable, its value and what is allowed.
    """
    values: dict[str, Any] = {}
    for entry in fields(Settings):
        variable = PREFIX + entry.name.upper()
        text = environment.get(variable, "").strip()
        if not text:
            continue
        try:
            values[entry.name] = entry.metadata["read"](text)
        except ValueError as error:
            raise SettingsError(
                f"environment variable {variable}={text!r} {error}: {entry.metadata['help']}"
            ) from None
    return Settings(**values)


def settings() -> Settings:
    """The settings of this process's environment, read anew at each call."""
    return read_settings(os.environ)
