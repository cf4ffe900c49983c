"""Proves a plan consistent: every reference lies inside its space, shapes and sizes agree."""

import math

from bessemer.core.dtypes import DTYPES
from bessemer.core.errors import EngineFormatError
from bessemer.engine.plan import Binding, BufferRef, EngineData, KernelStep, Plan, TensorRef

CONSTANT_ALIGNMENT = 64
_OBJECT_SPACES = ("host", "input", "output")


def tensor_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Bytes of a dense tensor of that dtype."""
    return math.prod(shape) * DTYPES[dtype].size_bytes


def binding_bytes(binding: Binding) -> int | None:
    """Bytes of a binding, None if a dimension is open or it is no numeric tensor."""
    if not binding.is_static or binding.dtype == "string":
        return None
    assert binding.shape is not None
    return tensor_bytes(binding.dtype, tuple(int(extent or 0) for extent in binding.shape))


class _Checker:
    def __init__(self, plan: Plan, constant_bytes: int) -> None:
        self.plan = plan
        self.limits = {"arena": plan.arena_bytes, "constant": constant_bytes}
        self.bindings = {"input": plan.inputs, "output": plan.outputs}

    def fail(self, where: str, text: str) -> EngineFormatError:
        return EngineFormatError(f"plan {self.plan.name!r}, {where}: {text}")

    def buffer(self, ref: BufferRef, where: str) -> None:
        """A reference to bytes: it must lie inside its space."""
        if ref.space == "host":
            raise self.fail(where, "kernels cannot use the space 'host'")
        if ref.space in self.limits:
            limit = self.limits[ref.space]
            if ref.byte or ref.offset + ref.size_bytes > limit:
                raise self.fail(
                    where, f"bytes {ref.offset}+{ref.byte}..{ref.offset + ref.size_bytes} of "
                    f"{ref.space} lie outside its {limit} bytes"
                )
            return
        limit_of = binding_bytes(self.binding(ref, where))
        if limit_of is None:
            raise self.fail(where, f"{ref.space} {ref.offset} has no fixed size for a kernel")
        if ref.byte + ref.size_bytes > limit_of:
            raise self.fail(
                where, f"bytes {ref.byte}..{ref.byte + ref.size_bytes} of {ref.space} {ref.offset} "
                f"lie outside its {limit_of} bytes"
            )

    def binding(self, ref: BufferRef, where: str) -> Binding:
        known = self.bindings[ref.space]
        if ref.offset >= len(known):
            text = f"{ref.space} {ref.offset} does not exist; there are {len(known)}"
            raise self.fail(where, text)
        return known[ref.offset]

    def tensor(self, ref: TensorRef, where: str) -> None:
        """A value of a host step."""
        buffer = ref.buffer
        if buffer.space == "host":
            if buffer.offset >= self.plan.host_slots:
                raise self.fail(where, f"host slot {buffer.offset} of {self.plan.host_slots}")
            return
        numeric = ref.dtype not in ("", "string") and ref.shape is not None
        if buffer.space in _OBJECT_SPACES and (
            not numeric or binding_bytes(self.binding(buffer, where)) is None
        ):
            self.binding(buffer, where)
            if buffer.byte:
                raise self.fail(where, "a byte offset needs a tensor of fixed size")
            return
        if not numeric:
            raise self.fail(where, f"a value in {buffer.space} needs a dtype and a shape")
        assert ref.shape is not None
        size = tensor_bytes(ref.dtype, ref.shape)
        if size != buffer.size_bytes:
            raise self.fail(
                where, f"{ref.dtype}{list(ref.shape)} takes {size} bytes, not {buffer.size_bytes}"
            )
        self.buffer(buffer, where)

    def output(self, binding: Binding, where: str) -> None:
        """An output with a source: the source must give as many bytes as the output has."""
        ref = binding.source
        if ref is None:
            return
        if ref.space == "host":
            if ref.offset >= self.plan.host_slots:
                raise self.fail(where, f"host slot {ref.offset} of {self.plan.host_slots}")
            return
        if ref.space == "output":
            raise self.fail(where, "the source of an output cannot be an output")
        size = binding_bytes(binding)
        if size is None:
            if ref.space != "input" or ref.byte:
                raise self.fail(where, f"an open shape cannot be copied from {ref.space}")
            self.binding(ref, where)
            return
        if size != ref.size_bytes:
            raise self.fail(where, f"the output takes {size} bytes, its source {ref.size_bytes}")
        self.buffer(ref, where)

    def names(self, bindings: tuple[Binding, ...], where: str) -> None:
        names = [binding.name for binding in bindings]
        if len(set(names)) != len(names):
            raise self.fail(where, f"names are not unique: {names}")

    def run(self) -> None:
        plan = self.plan
        if plan.binding_alignment & (plan.binding_alignment - 1):
            raise self.fail("binding_alignment", f"{plan.binding_alignment} is no power of two")
        self.names(plan.inputs, "inputs")
        self.names(plan.outputs, "outputs")
        for index, ref in enumerate(plan.zeroed):
            if ref.space != "arena":
                raise self.fail(f"zeroed[{index}]", "must lie in the arena")
            self.buffer(ref, f"zeroed[{index}]")
        for index, step in enumerate(plan.steps):
            where = f"step {index} {step.name!r}"
            if isinstance(step, KernelStep):
                for number, ref in enumerate(step.args):
                    if ref.space == "input" and self.binding(ref, where).dtype == "":
                        raise self.fail(where, f"argument {number} is no tensor")
                    self.buffer(ref, f"{where}, argument {number}")
                continue
            for kind, values in (("input", step.inputs), ("output", step.outputs)):
                for number, value in enumerate(values):
                    if value is None:
                        continue
                    if kind == "output" and value.buffer.space in ("constant", "input"):
                        raise self.fail(where, f"output {number} is read-only")
                    self.tensor(value, f"{where}, {kind} {number}")
        for index, output in enumerate(plan.outputs):
            self.output(output, f"output {index} {output.name!r}")


def check_plan(plan: Plan, constant_bytes: int) -> None:
    """Raises EngineFormatError naming the step and argument that is inconsistent."""
    _Checker(plan, constant_bytes).run()


def check_engine(data: EngineData) -> None:
    """Checks the plans of all variants and the constants.

    Raises: EngineFormatError.
    """
    position = 0
    for offset, array in sorted(data.constants, key=lambda entry: entry[0]):
        if offset % CONSTANT_ALIGNMENT or offset < position:
            raise EngineFormatError(
                f"plan {data.plan.name!r}: the constant at {offset} overlaps another or is not "
                f"aligned to {CONSTANT_ALIGNMENT} bytes"
            )
        position = offset + array.nbytes
    unknown = (data.plans.keys() | data.requires.keys()) - data.objects.keys()
    if unknown:
        raise EngineFormatError(f"plan {data.plan.name!r}: no code for variants {sorted(unknown)}")
    check_plan(data.plan, data.constant_bytes)
    for name, plan in data.plans.items():
        if _signature(plan) != _signature(data.plan):
            raise EngineFormatError(f"variant {name!r} has other bindings than the engine")
        check_plan(plan, data.constant_bytes)


def _signature(plan: Plan) -> list[tuple[object, ...]]:
    """What callers see of the bindings; where an output comes from may differ by variant."""
    return [
        (len(plan.inputs), binding.name, binding.dtype, binding.shape)
        for binding in (*plan.inputs, *plan.outputs)
    ]
