"""The tensors of a random graph."""

from dataclasses import dataclass

from bessemer.core.dtypes import dtype_from_numpy
from bessemer.debug.random_graphs.data import Array


class Reject(Exception):
    """A rule that cannot make its node here."""


@dataclass(eq=False)
class Value:
    """A tensor of the graph: its name, and its data for the graph's own inputs."""

    name: str
    data: Array
    uses: int = 0
    symbols: tuple[str | None, ...] = ()

    @property
    def dtype(self) -> str:
        """The name of its element type."""
        return dtype_from_numpy(self.data.dtype).name

    @property
    def shape(self) -> tuple[int, ...]:
        """Its extents."""
        return tuple(self.data.shape)

    @property
    def rank(self) -> int:
        """Its number of axes."""
        return self.data.ndim
