"""The compiled model as data: steps, buffers, bindings, memory plan. No behaviour, no machine code.

Everything here is plain frozen data that `engine.manifest` turns into JSON and back, and that
`engine.check` proves consistent before anything runs.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

FORMAT_VERSION = 1

SPACES = ("arena", "constant", "input", "output", "host")


@dataclass(frozen=True)
class BufferRef:
    """Bytes that a step reads or writes.

    `space` says what `offset` means: byte offset in the "arena" or in the "constant" blob, index of
    the binding for "input" and "output" (then `byte` is the offset inside the binding), slot number
    for "host" (a Python object that the context holds between steps).
    """

    space: str
    offset: int
    size_bytes: int
    byte: int = 0


@dataclass(frozen=True)
class TensorRef:
    """A value that a host step takes or gives.

    In "arena", "constant", "input" and "output" it is a dense row-major array. `shape` None means
    that the shape is known only when running; `dtype` "" means that it is no tensor (a sequence, an
    optional). Both are allowed only in the spaces "host", "input" and "output".
    """

    buffer: BufferRef
    dtype: str
    shape: tuple[int, ...] | None


@dataclass(frozen=True)
class KernelStep:
    """One call of a compiled kernel `void symbol(ptr args, i64 thread, i64 threads)`.

    `args` become the array of buffer pointers, in this order. A step that is not `parallel` runs on
    one thread only, as thread 0 of 1. `barrier_after` False allows the next kernel to start before
    this one has finished; the two must be independent.
    """

    name: str
    symbol: str
    args: tuple[BufferRef, ...]
    sources: tuple[str, ...] = ()
    flops: int = 0
    bytes: int = 0
    rule: str = ""
    schedule: str = ""
    shapes: str = ""
    parallel: bool = True
    barrier_after: bool = True
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class HostStep:
    """One opaque operator, run by its numpy reference; `operator` is the JSON of `ir.codec`.

    An absent optional input is None. Outputs in the arena or in an output binding are copied there.
    """

    name: str
    operator: dict[str, Any]
    inputs: tuple[TensorRef | None, ...]
    outputs: tuple[TensorRef | None, ...]
    sources: tuple[str, ...] = ()
    reason: str = ""


Step = KernelStep | HostStep


@dataclass(frozen=True)
class Binding:
    """An input or output of the engine.

    `shape` entries are extents, names of symbols, or None for unknown; the whole is None for an
    unknown rank. `dtype` is a name of `core.dtypes`, or "" for a value that is no tensor.
    An output with a `source` is copied (or handed over, from "host") from there after the last
    step; with `source` None the steps write it directly.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None
    source: BufferRef | None = None

    @property
    def is_static(self) -> bool:
        """True for a tensor of which every extent is known."""
        return bool(self.dtype) and self.shape is not None and all(
            isinstance(extent, int) for extent in self.shape
        )


@dataclass(frozen=True)
class MemoryRow:
    """Where one value lives: arena bytes `offset` .. `offset + size_bytes` from step to step."""

    value: str
    offset: int
    size_bytes: int
    first_step: int
    last_step: int
    alias_of: str = ""


@dataclass(frozen=True)
class MemoryReport:
    """What the memory planner decided, and what it is measured against."""

    arena_bytes: int = 0
    weights_bytes: int = 0
    workspace_bytes: int = 0
    sum_of_tensors_bytes: int = 0
    liveness_lower_bound_bytes: int = 0
    table: tuple[MemoryRow, ...] = ()


@dataclass(frozen=True)
class PassRecord:
    """What one graph pass did."""

    name: str
    changed: bool
    nodes_before: int
    nodes_after: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class NodeRecord:
    """What became of one node of the source model: the step that holds it (-1: none), and why."""

    name: str
    operator: str
    step: int
    why: str


@dataclass(frozen=True)
class Plan:
    """A compiled model.

    `host_slots` is the number of Python objects that host steps pass on. `binding_alignment` is
    what kernels assume of input and output pointers; bindings that lie worse are copied. `zeroed`
    names arena ranges that must be zero at the first run and that kernels leave zero (halos).
    `options` and `versions` are JSON values.
    """

    name: str
    inputs: tuple[Binding, ...]
    outputs: tuple[Binding, ...]
    steps: tuple[Step, ...]
    arena_bytes: int = 0
    host_slots: int = 0
    binding_alignment: int = 16
    zeroed: tuple[BufferRef, ...] = ()
    memory: MemoryReport = field(default_factory=MemoryReport)
    options: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    passes: tuple[PassRecord, ...] = ()
    notes: tuple[str, ...] = ()
    nodes: tuple[NodeRecord, ...] = ()
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True, eq=False)
class EngineData:
    """A plan with its machine code and constants: all that an engine file holds.

    `objects` maps a variant's name to its ELF64 relocatable objects; together they define the
    symbols of all kernel steps, and one of them is the compiled driver (`codegen.llvm.driver`).
    `requires` maps a variant to the CPU features it needs. `constants` are (byte offset, array)
    and must not overlap; offsets are multiples of 64. `plans` overrides the plan for variants
    whose steps or packed constants differ (bindings must stay the same).
    """

    plan: Plan
    objects: dict[str, tuple[bytes, ...]] = field(default_factory=dict)
    requires: dict[str, tuple[str, ...]] = field(default_factory=dict)
    constants: tuple[tuple[int, np.ndarray[Any, Any]], ...] = ()
    plans: dict[str, Plan] = field(default_factory=dict)

    @property
    def constant_bytes(self) -> int:
        """Size of the constant blob."""
        return max((offset + array.nbytes for offset, array in self.constants), default=0)

    def plan_of(self, variant: str) -> Plan:
        """The plan that the variant runs."""
        return self.plans.get(variant, self.plan)
