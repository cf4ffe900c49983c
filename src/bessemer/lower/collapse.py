"""Simplifies the axes of a kernel: drops reduction axes of extent 1 and merges neighbours.

Axes j and j+1 merge where every tensor is read and written at [.., i_j, i_(j+1), ..] with both
lying densely in memory, or does not depend on either: for a 1x1 convolution the rows and columns
of the picture become one axis of pixels.
"""

from dataclasses import dataclass, replace

import numpy as np

from bessemer.core.dtypes import i64
from bessemer.core.shapes import Shape
from bessemer.ir.layout import Layout, Part
from bessemer.lower.affine import linear
from bessemer.lower.kernel import Kernel, Operand, axis_ranges
from bessemer.lower.loops import static
from bessemer.te.expr import Expr, Load, Reduce, Var, const
from bessemer.te.tensor import IterVar, Tensor
from bessemer.te.walk import loads, rewrite, substitute, walk


def simplify_axes(kernel: Kernel) -> Kernel:
    """An equal kernel with fewer axes."""
    kernel = _map_stages(kernel, _drop_unit_axes)
    changed = True
    while changed:
        changed = False
        for reducing in (False, True):
            for j in range(_axis_count(kernel, reducing) - 2, -1, -1):
                merged = _merge(kernel, j, reducing)
                if merged is not None:
                    kernel, changed = merged, True
    return kernel


def _axis_count(kernel: Kernel, reducing: bool) -> int:
    if reducing:
        bodies = [stage.body for stage in kernel.reductions]
        return len(bodies[0].axes) if len(bodies) == 1 and isinstance(bodies[0], Reduce) else 0
    ranks = {stage.rank for stage in kernel.stages}
    return ranks.pop() if len(ranks) == 1 else 0


def _map_stages(kernel: Kernel, change: "object") -> Kernel:
    """Rebuilds all stages bottom-up by a function of one compute."""
    made: dict[int, Tensor] = {}
    for stage in kernel.stages:
        assert stage.body is not None
        body = rewrite(stage.body, lambda node: _swap(node, made))
        made[id(stage)] = change(  # type: ignore[operator]
            Tensor(stage.name, stage.dtype, stage.shape, stage.axes, body))
    outputs = [replace(o, tensor=made[id(o.tensor)]) for o in kernel.outputs]
    return Kernel(kernel.name, kernel.inputs, outputs, kernel.sources, kernel.notes)


def _swap(node: Expr, made: dict[int, Tensor]) -> Expr | None:
    if isinstance(node, Load) and id(node.tensor) in made:
        return Load(made[id(node.tensor)], node.indices, node.dtype, node.fill)
    return None


def _drop_unit_axes(tensor: Tensor) -> Tensor:
    """Reduction axes of extent 1 become the index 0; index expressions become linear forms."""
    body = tensor.body
    if isinstance(body, Reduce) and body.kind not in ("argmax", "argmin"):
        unit = [axis for axis in body.axes if axis.extent == 1]
        kept = tuple(axis for axis in body.axes if axis.extent != 1) or body.axes[:1]
        gone: dict[Expr, Expr] = {axis: const(0, i64) for axis in unit if axis not in kept}
        if gone:
            inner = substitute(body.body, gone)
            body = Reduce(body.kind, inner, kept, body.dtype, body.last)
    assert body is not None
    axes = tensor.axes + (body.axes if isinstance(body, Reduce) else ())
    ranges = axis_ranges(axes)

    def tidy(node: Expr) -> Expr | None:
        if not isinstance(node, Load):
            return None
        indices = tuple(index if isinstance(index, Var) else linear(index, ranges).expr()
                        for index in node.indices)
        return Load(node.tensor, indices, node.dtype, node.fill)

    return Tensor(tensor.name, tensor.dtype, tensor.shape, tensor.axes, rewrite(body, tidy))


@dataclass(eq=False)
class _Merge:
    """One attempt to merge axes j and j+1 of all stages."""

    kernel: Kernel
    j: int
    reducing: bool

    def __post_init__(self) -> None:
        self.places: dict[int, int] = {}  # tensor -> dimension merged with its right neighbour
        self.untouched: set[int] = set()

    def pair(self, stage: Tensor) -> tuple[IterVar, IterVar] | None:
        axes = stage.axes
        if self.reducing:
            if not isinstance(stage.body, Reduce):
                return None
            axes = stage.body.axes
        return axes[self.j], axes[self.j + 1]

    def check(self) -> bool:
        """True if the merge is legal; fills `places`."""
        for stage in self.kernel.stages:
            pair = self.pair(stage)
            if pair is None:
                assert stage.body is not None
                self.untouched |= {id(load.tensor) for load in loads(stage.body)}
            elif not self._check_stage(stage, pair):
                return False
            if not self.reducing and not self._place(stage, self.j, pair):
                return False
        if set(self.places) & self.untouched:
            return False
        for operand in (*self.kernel.inputs, *self.kernel.outputs):
            dim = self.places.get(id(operand.tensor))
            if dim is not None and not mergeable(operand, dim):
                return False
        return bool(self.places)

    def _place(self, tensor: Tensor, dim: int, pair: tuple[IterVar, IterVar] | None) -> bool:
        shape = tensor.shape
        if pair is not None and (shape[dim], shape[dim + 1]) != (pair[0].extent, pair[1].extent):
            return False
        return self.places.setdefault(id(tensor), dim) == dim

    def _check_stage(self, stage: Tensor, pair: tuple[IterVar, IterVar]) -> bool:
        assert stage.body is not None
        allowed = 0
        for node in walk(stage.body):
            if not isinstance(node, Load):
                continue
            uses = [k for k, index in enumerate(node.indices)
                    if any(n is pair[0] or n is pair[1] for n in walk(index))]
            if not uses:
                self.untouched.add(id(node.tensor))
                continue
            if self.reducing and node.tensor.body is not None:
                return False  # the axes of a compute stay as they are
            k = uses[0]
            if uses != [k, k + 1] or node.fill is not None or node.indices[k] is not pair[0] \
                    or node.indices[k + 1] is not pair[1] \
                    or not self._place(node.tensor, k, pair):
                return False
            allowed += 1
        return not _used_outside_loads(stage.body, pair)


def _used_outside_loads(expr: Expr, pair: tuple[IterVar, IterVar]) -> bool:
    """True if an axis is used as a number, not as an index of a load."""
    stack = [expr]
    while stack:
        node = stack.pop()
        if node is pair[0] or node is pair[1]:
            return True
        if isinstance(node, Load):
            stack.extend(i for i in node.indices if not isinstance(i, Var))
        else:
            stack.extend(node.children())
    return False


def mergeable(operand: Operand, dim: int) -> bool:
    """True if logical axes dim and dim+1 lie densely one inside the other in memory."""
    parts = operand.layout.parts
    where = [k for k, part in enumerate(parts) if part.axis in (dim, dim + 1)]
    if len(where) != 2 or where[1] != where[0] + 1:
        return False
    first, second = where
    if parts[first] != Part(dim) or parts[second] != Part(dim + 1):
        return False
    if any(operand.layout.halo[axis] != (0, 0) for axis in (dim, dim + 1)):
        return False
    return operand.strides[first] == operand.strides[second] * operand.shape[dim + 1] \
        or operand.shape[dim] == 1


def merge_operand(operand: Operand, dim: int, tensor: Tensor) -> Operand:
    """The operand with two logical axes made one."""
    layout = operand.layout
    parts, strides = [], []
    for part, stride in zip(layout.parts, operand.strides, strict=True):
        if part.axis == dim:
            continue
        axis = part.axis - 1 if part.axis > dim else part.axis
        parts.append(Part(axis, part.div, part.mod))
        strides.append(stride)
    halo = (*layout.halo[:dim], *layout.halo[dim + 1:])
    constant = operand.constant
    if constant is not None:
        constant = np.ascontiguousarray(constant).reshape(static(tensor.shape))
    return replace(operand, tensor=tensor, layout=Layout(tuple(parts), halo),
                   strides=tuple(strides), constant=constant)


def _merge(kernel: Kernel, j: int, reducing: bool) -> Kernel | None:
    attempt = _Merge(kernel, j, reducing)
    if not attempt.check():
        return None
    made: dict[int, Tensor] = {}
    operands: dict[int, Operand] = {}
    for operand in kernel.inputs:
        dim = attempt.places.get(id(operand.tensor))
        if dim is not None:
            old = operand.tensor
            shape = _merged(old.shape, dim)
            made[id(old)] = Tensor(old.name, old.dtype, shape)
            operands[id(old)] = merge_operand(operand, dim, made[id(old)])
    inputs = [operands.get(id(o.tensor), o) for o in kernel.inputs]
    for stage in kernel.stages:
        made[id(stage)] = _merge_stage(stage, attempt, made)
    outputs = []
    for operand in kernel.outputs:
        dim = attempt.places.get(id(operand.tensor))
        fresh = made[id(operand.tensor)]
        outputs.append(merge_operand(operand, dim, fresh) if dim is not None
                       else replace(operand, tensor=fresh))
    return Kernel(kernel.name, inputs, outputs, kernel.sources, kernel.notes)


def _merged(shape: Shape, dim: int) -> Shape:
    return (*shape[:dim], shape[dim] * shape[dim + 1], *shape[dim + 2:])


def _merge_axes(axes: tuple[IterVar, ...], j: int) -> tuple[IterVar, ...]:
    a, b = axes[j], axes[j + 1]
    merged = IterVar(a.name + "_" + b.name, i64, a.extent * b.extent)
    return (*axes[:j], merged, *axes[j + 2:])


def _merge_stage(stage: Tensor, attempt: _Merge, made: dict[int, Tensor]) -> Tensor:
    body = stage.body
    assert body is not None
    axes, shape = stage.axes, stage.shape
    fresh: IterVar | None = None
    if not attempt.reducing:
        axes = _merge_axes(axes, attempt.j)
        shape = _merged(shape, attempt.j)
        fresh = axes[attempt.j]
    elif isinstance(body, Reduce):
        merged = _merge_axes(body.axes, attempt.j)
        fresh = merged[attempt.j]
        body = Reduce(body.kind, body.body, merged, body.dtype, body.last)

    def visit(node: Expr) -> Expr | None:
        if not isinstance(node, Load):
            return None
        tensor = made.get(id(node.tensor), node.tensor)
        dim = attempt.places.get(id(node.tensor))
        indices = node.indices
        if dim is not None:
            assert fresh is not None
            indices = (*indices[:dim], fresh, *indices[dim + 2:])
        return Load(tensor, indices, node.dtype, node.fill)

    return Tensor(stage.name, stage.dtype, shape, axes, rewrite(body, visit))
