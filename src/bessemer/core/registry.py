"""Registries that import their folder on first look-up, so a new file is all a new thing needs."""

import importlib
import pkgutil
from collections.abc import Iterable
from typing import Generic, TypeVar

from bessemer.core.errors import BessemerError

T = TypeVar("T")


class Registry(Generic[T]):
    """Maps names to things defined by the modules of one package.

    The package is imported on first look-up, module by module in sorted order, so
    registration order is deterministic and registering is enough to be found.
    """

    def __init__(self, kind: str, package: str, error: type[BessemerError]) -> None:
        self.kind = kind
        self.package = package
        self.error = error
        self._entries: dict[str, T] = {}
        self._loaded = False

    def add(self, name: str, entry: T) -> T:
        """Registers `entry`; a name can be taken only once."""
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is registered twice")
        self._entries[name] = entry
        return entry

    def load(self) -> None:
        """Imports every module of the package once; one that fails is imported again next time."""
        if self._loaded:
            return
        self._loaded = True  # at once: modules may look up others while they load
        try:
            package = importlib.import_module(self.package)
            found = pkgutil.walk_packages(package.__path__, self.package + ".")
            for name in sorted(module.name for module in found):
                importlib.import_module(name)
        except BaseException:
            self._loaded = False
            raise

    def names(self) -> list[str]:
        """All registered names, sorted."""
        self.load()
        return sorted(self._entries)

    def find(self, name: str) -> T | None:
        """The entry of that name, or None."""
        self.load()
        return self._entries.get(name)

    def get(self, name: str, others: Iterable[str] = ()) -> T:
        """The entry of that name; a wrong name is answered with near ones, also of the others."""
        entry = self.find(name)
        if entry is None:
            import difflib  # of use to errors only

            near = difflib.get_close_matches(name, [*self._entries, *others], n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise self.error(f"unknown {self.kind} {name!r}{hint}")
        return entry


# Declared here because the runtime looks operators up by name without importing their folder.
OPERATORS: Registry[type] = Registry("operator", "bessemer.ops", BessemerError)
