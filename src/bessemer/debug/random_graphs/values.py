"""The values of a random graph: tensors, sequences and optionals."""

from dataclasses import dataclass

from bessemer.core.dtypes import dtype_from_numpy
from bessemer.debug.random_graphs.data import Array


class Reject(Exception):
    """A rule that cannot make its node here."""


@dataclass(eq=False)
class Value:
    """A value of the graph: its name, and its data for the graph's own inputs.

    `kind` is tensor, sequence (`data` is a list) or optional (`data` may be None); of the latter
    two `element` is the type of the tensors inside.
    """

    name: str
    data: Array
    uses: int = 0
    symbols: tuple[str | None, ...] = ()
    kind: str = "tensor"
    element: str = ""

    @property
    def dtype(self) -> str:
        """The name of its element type; of a sequence or an optional, one that no tensor has."""
        if self.kind != "tensor":
            return f"{self.kind}({self.element})"
        return dtype_from_numpy(self.data.dtype).name

    @property
    def shape(self) -> tuple[int, ...]:
        """Its extents."""
        return tuple(self.data.shape)

    @property
    def rank(self) -> int:
        """Its number of axes."""
        return self.data.ndim
