"""Dumps the stages of a build into a folder: `001-import.ir`, `002-fold-constants.ir`, kernels."""

from pathlib import Path
from typing import TYPE_CHECKING

from bessemer.core.settings import settings
from bessemer.ir.graph import Graph
from bessemer.ir.printer import print_graph

if TYPE_CHECKING:
    from bessemer.compiler.variant import Variant


class Dumper:
    """Writes numbered files into a folder; without a folder it does nothing."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.count = 0

    @staticmethod
    def from_settings() -> "Dumper":
        """A dumper for BESSEMER_DUMP_DIR."""
        return Dumper(settings().dump_dir)

    def graph(self, stage: str, graph: Graph) -> None:
        """A graph after a stage."""
        if self.folder is not None:
            self._write(f"{stage}.ir", print_graph(graph))

    def variant(self, variant: "Variant") -> None:
        """Graph with layouts, fusion decisions and loops of one variant."""
        if self.folder is None:
            return
        name = variant.target.name
        self.graph(f"{name}-layouts", variant.graph)
        self._write(f"{name}-fusion.txt", "\n".join(map(str, variant.partition.notes)))
        for kernel in variant.kernels:
            self._write(f"{name}-{kernel.symbol}.loops", f"{kernel.name}\n{kernel.function}")

    def _write(self, name: str, text: str) -> None:
        assert self.folder is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        self.count += 1
        (self.folder / f"{self.count:03d}-{name}").write_text(text + "\n")
