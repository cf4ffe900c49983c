"""Nests whose outputs join one axis of a reduction: a recurrent cell reads all gates of a unit."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from bessemer.core.dtypes import i64
from bessemer.lower.loops import Alloc, Buffer, Stmt, Store
from bessemer.schedule.accumulators import Accumulator
from bessemer.schedule.memory import Axes
from bessemer.schedule.nest import Nest
from bessemer.schedule.regions import Env
from bessemer.te.expr import Const, Expr, Load, Reduce, cast, const
from bessemer.te.tensor import Tensor, placeholder
from bessemer.te.walk import loads, rewrite


@dataclass(eq=False)
class JoinedNest(Nest):
    """A reduction [.., gates, n] and outputs [.., n] that read it at constant gates.

    The accumulators of all gates stay in registers until the outputs are written. `outputs` are in
    an order in which each may read those before it, at its own indices. The last loop of the
    schedule is the vector loop, and all output loops inside the accumulators are unrolled.
    """

    @property
    def joined(self) -> int:
        """The axis of the reduction that the outputs lack."""
        return self.stage.rank - 2

    @cached_property
    def parts(self) -> dict[int, Tensor]:
        """What stands for the reduction's value at each gate that is read."""
        return {
            gate_of(load, self.joined): placeholder(load.dtype, (), "gate")
            for operand in self.outputs
            for load in loads(operand.tensor.body)  # type: ignore[arg-type]
            if load.tensor is self.stage
        }

    def _accumulate(self, env: Env) -> list[Stmt]:
        body, lanes = self.stage.body, self.inner[-1]
        assert isinstance(body, Reduce)
        spatial = [name for name in self.inner if name not in self.schedule.reducing]
        kept, extents = spatial[:-1], self.schedule.extents
        width = int(extents[lanes])  # type: ignore[arg-type,unused-ignore]
        shape = (*(int(extents[name]) for name in kept), width)  # type: ignore[arg-type,unused-ignore]
        accumulator = Accumulator(self, body, shape, "register", kept, lanes)
        shared = self._shared(width)
        writing = [name for name in spatial if name != f"a{self.joined}"]
        return [
            *accumulator.declare(),
            *(Alloc(buffer) for buffer in shared.values()),
            *self._loops(spatial, env, accumulator.initialise),
            *self._loops(self.inner, env, accumulator.update),
            *self._loops(writing, env, lambda inner: self._write(accumulator, shared, inner)),
        ]

    def _shared(self, width: int) -> dict[int, Buffer]:
        """Registers for the outputs that other outputs read."""
        read = {
            id(load.tensor)
            for operand in self.outputs
            for load in loads(operand.tensor.body)  # type: ignore[arg-type]
        }
        return {
            id(operand.tensor): Buffer.dense(f"out{k}", operand.dtype, (1, width), "register")
            for k, operand in enumerate(self.outputs)
            if id(operand.tensor) in read
        }

    def _write(
        self, accumulator: Accumulator, shared: Mapping[int, Buffer], env: Env
    ) -> list[Stmt]:
        """Stores of all outputs of one vector."""
        body, axes = self.stage.body, self.axes(env)
        assert isinstance(body, Reduce)
        known: dict[int, Expr] = {}
        place: tuple[Expr, ...] = ()
        for gate, part in self.parts.items():
            index = accumulator.index(env.bind(f"a{self.joined}", const(gate, i64)))
            place = (const(0, i64), index[-1])
            summed = Load(accumulator.value, index, accumulator.value.dtype)
            known[id(part)] = cast(summed, body.dtype)
        result: list[Stmt] = []
        for operand in self.outputs:
            own = self._output_axes(axes, operand.tensor)
            value = self.memory.expression(self._over_parts(operand.tensor), own, known)
            buffer = shared.get(id(operand.tensor))
            if buffer is not None:
                result.append(Store(buffer, place, value))
                value = known[id(operand.tensor)] = Load(buffer, place, buffer.dtype)
            indices = tuple(own.values[axis.name] for axis in operand.tensor.axes)
            result += self.memory.store(operand, own, indices, value)
        return self.guarded(result, env, False)

    def _output_axes(self, axes: Axes, tensor: Tensor) -> Axes:
        """The reduction's axes, less the joined one, under the names of an output's axes."""
        ours = [axis for k, axis in enumerate(self.stage.axes) if k != self.joined]
        pairs = list(zip(ours, tensor.axes, strict=True))
        return Axes(
            {theirs.name: axes.values[own.name] for own, theirs in pairs},
            {theirs.name: axes.ranges[own.name] for own, theirs in pairs},
        )

    def _over_parts(self, tensor: Tensor) -> Expr:
        """An output's expression with each gate as a tensor of its own."""
        assert tensor.body is not None

        def visit(node: Expr) -> Expr | None:
            if not isinstance(node, Load) or node.tensor is not self.stage:
                return None
            return Load(self.parts[gate_of(node, self.joined)], (), node.dtype)

        return rewrite(tensor.body, visit)


def gate_of(load: Load, joined: int) -> int:
    """The constant gate at which a reduction is read."""
    gate = load.indices[joined]
    assert isinstance(gate, Const), f"{load} reads no constant gate"
    return int(gate.value)
