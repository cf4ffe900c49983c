"""Layouts: how the elements of a logical tensor lie in memory, as data.

A layout is a list of physical dimensions, each a piece of one logical axis:
`(index + halo) // div % mod`. Plain NCHW, NCHW16c with a zero halo, transposes and packed
weights are all of this form, so kernels are written on logical indices only.
"""

import itertools
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from bessemer.core.shapes import Dim, Shape, product


@dataclass(frozen=True)
class Part:
    """One physical dimension: `(index[axis] + low halo) // div % mod`; `mod` 0 means no modulo."""

    axis: int
    div: int = 1
    mod: int = 0


@dataclass(frozen=True)
class Layout:
    """Physical dimensions from outermost to innermost, and the halo (low, high) of each axis.

    Elements of the halo, and those that only exist because an extent was rounded up to a
    multiple of a block, are zero in every buffer that consumers read.
    """

    parts: tuple[Part, ...]
    halo: tuple[tuple[int, int], ...]

    @staticmethod
    def plain(rank: int) -> "Layout":
        """Row-major, no halo."""
        return Layout(tuple(Part(axis) for axis in range(rank)), ((0, 0),) * rank)

    @staticmethod
    def blocked(rank: int, axis: int, block: int) -> "Layout":
        """`axis` split by `block`, the inner piece innermost: NCHW -> NCHW16c."""
        parts = [Part(a, block if a == axis else 1) for a in range(rank)]
        return Layout((*parts, Part(axis, 1, block)), ((0, 0),) * rank)

    def with_halo(self, halo: tuple[tuple[int, int], ...]) -> "Layout":
        """The same order with that halo."""
        return Layout(self.parts, halo)

    @property
    def rank(self) -> int:
        """Logical rank."""
        return len(self.halo)

    @property
    def has_halo(self) -> bool:
        """True if any axis has a halo."""
        return any(low or high for low, high in self.halo)

    @property
    def is_plain(self) -> bool:
        """True for row-major without halo."""
        return self == Layout.plain(self.rank)

    def block_of(self, axis: int) -> int:
        """The innermost block size of a logical axis (1 if it is not blocked)."""
        return max((part.mod for part in self.parts if part.axis == axis), default=1) or 1

    @overload
    def physical_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]: ...

    @overload
    def physical_shape(self, shape: Shape) -> Shape: ...

    def physical_shape(self, shape: Shape) -> Shape:
        """Extents of the physical dimensions for a logical shape."""
        result: list[Dim] = []
        for part in self.parts:
            low, high = self.halo[part.axis]
            extent = -(-(shape[part.axis] + low + high) // part.div)
            result.append(part.mod or extent)
        return tuple(result)

    @overload
    def count(self, shape: tuple[int, ...]) -> int: ...

    @overload
    def count(self, shape: Shape) -> Dim: ...

    def count(self, shape: Shape) -> Dim:
        """Number of physical elements."""
        return product(self.physical_shape(shape))

    def has_padding(self, shape: Shape) -> bool:
        """True if there are physical elements that are no logical ones."""
        return self.count(shape) != product(shape)

    def same_bytes(self, other: "Layout", shape: Shape) -> bool:
        """True if a tensor of that shape lies in memory the same way in both layouts."""
        return self._order(shape) == other._order(shape)

    def _order(self, shape: Shape) -> tuple[Any, ...]:
        """What tells memory orders apart: no pieces of extent 1, neighbouring digits merged."""
        pieces: list[tuple[int, Dim, Dim]] = []
        for part, extent in zip(self.parts, self.physical_shape(shape), strict=True):
            if extent == 1:
                continue
            if pieces and pieces[-1][0] == part.axis and pieces[-1][1] == part.div * extent:
                pieces[-1] = (part.axis, part.div, pieces[-1][2] * extent)
            else:
                pieces.append((part.axis, part.div, extent))
        return self.halo if self.has_halo else (), pieces, self.has_padding(shape)

    def pack(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The physical array [physical_shape], zeros in halo and rounding."""
        order = self._digits()
        if order is None:
            return self._pack_by_index(array)
        physical = dict(zip(self.parts, self.physical_shape(array.shape), strict=True))
        digits = [[physical[part] for part in parts] for parts in order]
        padded = tuple(int(np.prod(sizes)) for sizes in digits)
        if padded != array.shape:
            room = np.zeros(padded, array.dtype)
            room[tuple(slice(low, low + extent) for extent, (low, _)
                       in zip(array.shape, self.halo, strict=True))] = array
            array = room
        split = array.reshape([size for sizes in digits for size in sizes])
        flat = [part for parts in order for part in parts]
        moved = split.transpose([flat.index(part) for part in self.parts])
        return np.asarray(moved, order="C")

    def _digits(self) -> list[list[Part]] | None:
        """The parts of each axis, outermost first, if they are the digits of its index."""
        result = []
        for axis in range(self.rank):
            parts = sorted((p for p in self.parts if p.axis == axis), key=lambda p: -p.div)
            if not parts or parts[0].mod or parts[-1].div != 1 or len(set(parts)) != len(parts):
                return None
            if any(low.div * low.mod != high.div for high, low in itertools.pairwise(parts)):
                return None
            result.append(parts)
        return result

    def _pack_by_index(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """`pack` for any layout, element by element."""
        shape = array.shape
        grids = self._grids(shape)
        valid = np.ones(self.physical_shape(shape), dtype=bool)
        index = []
        for axis, grid in enumerate(grids):
            valid &= (grid >= 0) & (grid < shape[axis])
            index.append(np.clip(grid, 0, max(shape[axis] - 1, 0)))
        if 0 in shape:
            return np.zeros(self.physical_shape(shape), array.dtype)
        return np.where(valid, array[tuple(index)], np.zeros((), array.dtype))

    def unpack(
        self, physical: np.ndarray[Any, Any], shape: tuple[int, ...]
    ) -> np.ndarray[Any, Any]:
        """The logical array [shape] from a physical one."""
        logical = np.meshgrid(
            *(np.arange(n) for n in shape), indexing="ij", sparse=True
        ) if shape else []
        index = []
        for part in self.parts:
            piece = (logical[part.axis] + self.halo[part.axis][0]) // part.div
            index.append(piece % part.mod if part.mod else piece)
        return physical.reshape(self.physical_shape(shape))[tuple(index)] if index else physical

    def _grids(self, shape: tuple[int, ...]) -> list[np.ndarray[Any, Any]]:
        physical = self.physical_shape(shape)
        coordinates = np.meshgrid(*(np.arange(n) for n in physical), indexing="ij", sparse=True)
        grids: list[Any] = [np.zeros((1,) * len(physical), np.int64) for _ in shape]
        for part, coordinate in zip(self.parts, coordinates, strict=True):
            grids[part.axis] = grids[part.axis] + coordinate * part.div
        return [grid - low for grid, (low, _) in zip(grids, self.halo, strict=True)]

    def __str__(self) -> str:
        letters = "NCDHW" if self.rank == 5 else "NCHW" if self.rank == 4 else "abcdefghijklmnop"
        text = ""
        for part in self.parts:
            text += (f"{part.mod}{letters[part.axis].lower()}" if part.mod else letters[part.axis])
        if self.has_halo:
            text += "+" + ",".join(f"{low}:{high}" for low, high in self.halo)
        return text
