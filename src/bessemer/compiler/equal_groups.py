"""Kernels of fusion groups; groups that are equal but for where their operands lie share one."""

from collections.abc import Hashable, Iterator
from dataclasses import replace

from bessemer.compiler.kernels import CompiledKernel, schedule_kernel
from bessemer.ir.graph import Value
from bessemer.ir.types import TensorType
from bessemer.lower.groups import Group
from bessemer.lower.kernel import Kernel, Operand
from bessemer.lower.lowering import has_many_zeros, kernel_of
from bessemer.lower.storage import StorageMap
from bessemer.schedule.rule import has_advised_rule
from bessemer.targets.target import Target


class KernelMaker:
    """Lowers and schedules groups, each distinct one once (the steps of an unrolled loop)."""

    def __init__(
        self, storage: StorageMap, target: Target, without: tuple[str, ...] = ()
    ) -> None:
        self.storage, self.target = storage, target
        self.without = without
        """Schedule rules that are switched off."""
        self._made: dict[Hashable, tuple[Group, CompiledKernel]] = {}

    def kernels(self, group: Group) -> list[CompiledKernel]:
        """The kernels of a group, in order."""
        key = self._key(group)
        found = self._made.get(key) if key is not None else None
        if found is not None:
            return [_copy(found[1], found[0], group)]
        kernel = kernel_of(group, self.storage)
        kernel.notes["without"] = self.without
        if group.seam and not has_advised_rule(kernel, self.target):
            return [made for part in group.parts() for made in self.kernels(part)]
        made = schedule_kernel(kernel, self.target)
        if key is not None and len(made) == 1:
            self._made[key] = group, made[0]
        return made

    def _key(self, group: Group) -> Hashable | None:
        """All that decides a group's kernel; None if it cannot be told."""
        numbers = {id(value): k for k, value in enumerate(_values(group))}
        nodes = tuple(
            (
                node.op,
                *(None if value is None else numbers[id(value)] for value in node.inputs),
                len(node.outputs),
            )
            for node in group.nodes
        )
        key = group.kind, nodes, tuple(map(self._described, _values(group)))
        try:
            hash(key)
        except TypeError:
            return None  # an attribute that cannot be compared, such as an array
        return key

    def _described(self, value: Value) -> Hashable:
        """What a kernel depends on of a value."""
        if value.constant is not None:
            return id(value.constant)
        if not isinstance(value.type, TensorType):
            return id(value)
        where = self.storage.of(value)
        needed = bool(value.users) or self.storage.graph.is_output(value)
        return (value.type, value.type.symbolic, where.layout, where.strides, needed,
                has_many_zeros(value))


def _values(group: Group) -> Iterator[Value]:
    """The values of a group, each once, in order of first use."""
    seen: set[int] = set()
    for node in group.nodes:
        for value in (*node.inputs, *node.outputs):
            if value is not None and id(value) not in seen:
                seen.add(id(value))
                yield value


def _copy(entry: CompiledKernel, first: Group, group: Group) -> CompiledKernel:
    """The kernel of an equal group: the same loops over the other group's values."""
    values = {id(old): new for old, new in zip(_values(first), _values(group), strict=True)}

    def moved(operand: Operand) -> Operand:
        return replace(operand, key=values[id(operand.key)])

    old, scheduled = entry.kernel, entry.scheduled
    kernel = Kernel(
        group.name,
        [moved(o) for o in old.inputs],
        [moved(o) for o in old.outputs],
        group.sources,
        old.notes,
    )
    # Notes are its own: which operands share memory differs from kernel to kernel.
    function = replace(scheduled.function, notes=dict(scheduled.function.notes))
    operands = tuple(moved(operand) for operand in scheduled.operands)
    return CompiledKernel(
        group.name, kernel, replace(scheduled, function=function, operands=operands)
    )
