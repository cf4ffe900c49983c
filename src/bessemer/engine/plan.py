"""The compiled model as data: steps, buffers, bindings, memory plan. No behaviour, no machine code.

Everything here is plain frozen data that `engine.manifest` turns into JSON and back, and that
`engine.check` proves consistent before anything runs.

An extent, a size or a byte offset is an integer or, in a symbolic plan, a formula: the text of a
`core.shapes.Dim` over the plan's symbols, such as `N`, `2*N+1`, `N*H`, `((H-1)//2)`.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import field
from typing import Any

import numpy as np

from bessemer.core.frozen import dataclass

FORMAT_VERSION = 2
"""The newest format. Static engines still have format 1; format 2 adds symbols and bodies."""

RUNNER_UP = "runner-up: "
"""A note of a kernel that begins so names the schedule that came second when it was tuned."""

SPACES = ("arena", "constant", "input", "output", "host", "block")
SYMBOL_SOURCES = ("input", "content", "step", "value")

Extent = int | str


@dataclass(frozen=True)
class BufferRef:
    """Bytes that a step reads or writes.

    `space` says what `offset` means: byte offset in the "arena" or in the "constant" blob, index of
    the binding for "input" and "output" (then `byte` is the offset inside the binding), slot number
    for "host" (a Python object that the context holds between steps), index into `Plan.blocks` for
    "block" (then `byte` is the offset inside the block). Static plans use the "arena", symbolic
    plans use blocks, also for what has the same size in every run.
    """

    space: str
    offset: int
    size_bytes: Extent
    byte: Extent = 0


@dataclass(frozen=True)
class TensorRef:
    """A value that a host step takes or gives.

    In "arena", "block", "constant", "input" and "output" it is a dense row-major array. `shape`
    None means that the shape is known only when running; `dtype` "" means that it is no tensor (a
    sequence, an optional). Both are allowed only in the spaces "host", "input" and "output".
    """

    buffer: BufferRef
    dtype: str
    shape: tuple[Extent, ...] | None


@dataclass(frozen=True)
class KernelStep:
    """One call of a compiled kernel `void symbol(ptr args, i64 piece, i64 pieces)`.

    `args` become the array of buffer pointers, in this order; after them stand the values of the
    formulas `scalars`, an i64 each. A step that is not `parallel` runs on one thread only, as
    piece 0 of 1. `barrier_after` False allows the next kernel to start before this one has
    finished; the two must be independent. `flops` and `bytes` count one run, of a symbolic plan at
    the usual shape; `work` gives both as formulas (or nothing). `instructions` are those of the
    vector units, counted by elements of f32 (0: not known).
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
    scalars: tuple[str, ...] = ()
    work: tuple[Extent, ...] = ()
    instructions: int = 0


@dataclass(frozen=True)
class HostStep:
    """One opaque operator, run by its numpy reference; `operator` is the JSON of `ir.codec`.

    An absent optional input is None. Outputs in the arena, in a block or in an output binding are
    copied there. An output may live in a block of a later epoch, whose size follows from the result
    itself: it is copied there when that epoch begins.

    Control flow has the graphs that it runs in `bodies`, by the name of the attribute, compiled:
    the operator only decides what runs next. Their kernels and constants lie with the engine's.
    """

    name: str
    operator: dict[str, Any]
    inputs: tuple[TensorRef | None, ...]
    outputs: tuple[TensorRef | None, ...]
    sources: tuple[str, ...] = ()
    reason: str = ""
    bodies: dict[str, "Plan"] = field(default_factory=dict)


@dataclass(frozen=True)
class ShapeStep:
    """Writes formulas as the elements of an integer tensor (Shape, target shapes of Reshape).

    `values` are the elements in row-major order, as many as `output` has; it lives in a block, in
    an output binding or in a host slot, and its own shape is static.
    """

    name: str
    output: TensorRef
    values: tuple[Extent, ...]
    sources: tuple[str, ...] = ()


Step = KernelStep | HostStep | ShapeStep


@dataclass(frozen=True)
class Binding:
    """An input or output of the engine.

    `shape` entries are extents, formulas, or None for unknown; the whole is None for an unknown
    rank. In a plan without symbols a text is just a name that stands for one extent wherever it
    occurs. `dtype` is a name of `core.dtypes`, or "" for a value that is no tensor.
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
class SymbolRecord:
    """A symbol of a symbolic plan: what it may be, and where a run finds its value.

    Values below `low` or above `high` are refused; `hint` is the usual value that schedules were
    chosen for. `source` is one of

    - ("input", binding, axis): extent `axis` of that input, whose entry in `Binding.shape` is
      exactly the symbol;
    - ("content", binding, element): an element (flat index) of that integer input;
    - ("step", step, output, axis): extent `axis` of that result of a host step;
    - ("value", step, output, element): an element of that integer result of a host step.

    The last two are known once the step has run.
    """

    name: str
    low: int = 0
    high: int | None = None
    hint: int | None = None
    source: tuple[Extent, ...] = ()


@dataclass(frozen=True)
class Condition:
    """A relation of two formulas, of `core.assumptions.RELATIONS`.

    Inputs that break one do not fit the model (`source` is the node that needs it), or need an
    engine built without it (`is_usual`).
    """

    relation: str
    left: Extent
    right: Extent
    source: str = ""

    @property
    def is_usual(self) -> bool:
        """True for what was taken for granted, but need not hold of valid inputs."""
        return self.relation.startswith("usually ")


@dataclass(frozen=True)
class BlockRecord:
    """A piece of the arena of one epoch; the memory plan as a formula.

    Its offset is the largest offset + size (rounded up to 64 bytes) of the blocks `below`, which
    have smaller indices and the same epoch; 0 if there are none.
    """

    size: Extent
    below: tuple[int, ...] = ()
    epoch: int = 0


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
    names ranges of the arena or of blocks that must be zero at the first run (of a shape) and that
    kernels leave zero (halos). `options` and `versions` are JSON values.

    A symbolic plan has `symbols`, and `blocks` in place of the arena. It runs in epochs: epoch 0
    from the first step on, epoch e from the step `epochs[e - 1]` on. Formulas of an epoch's steps
    and blocks use only symbols that are known when it begins; each epoch has memory of its own.
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
    symbols: tuple[SymbolRecord, ...] = ()
    blocks: tuple[BlockRecord, ...] = ()
    epochs: tuple[int, ...] = ()
    conditions: tuple[Condition, ...] = ()

    @property
    def is_symbolic(self) -> bool:
        """True if shapes or memory follow from symbols."""
        return bool(self.symbols or self.blocks or self.epochs)

    @property
    def format_version(self) -> int:
        """The oldest format that can hold this plan."""
        nested = any(isinstance(step, HostStep) and step.bodies for step in self.steps)
        return 2 if self.is_symbolic or nested else 1

    @property
    def inner_plans(self) -> "Iterator[Plan]":
        """The plans of all bodies, those in bodies included."""
        for step in self.steps:
            if isinstance(step, HostStep):
                for body in step.bodies.values():
                    yield body
                    yield from body.inner_plans

    @property
    def takes_for_granted(self) -> bool:
        """True if valid inputs may need an engine built without the usual conditions."""
        return any(condition.is_usual for plan in (self, *self.inner_plans)
                   for condition in plan.conditions)

    @property
    def opaque_steps(self) -> "Iterator[HostStep]":
        """The steps that run by their reference; of control flow those in its bodies."""
        for plan in (self, *self.inner_plans):
            for step in plan.steps:
                if isinstance(step, HostStep) and not step.bodies:
                    yield step


@dataclass(frozen=True)
class StoredConstant:
    """A constant of the stored graph: the array that lies in the constant blob at `offset`.

    `key` names it in the graph's text; `layout` is the text of the layout in which it is packed
    there ("" for row-major), so that it need not be stored twice.
    """

    key: str
    offset: int
    dtype: str
    shape: tuple[int, ...]
    layout: str = ""


@dataclass(frozen=True)
class StoredGraph:
    """The optimised graph of a symbolic engine: what variants for single shapes are built from.

    `text` is the graph's text form (`ir.printer`). `strings` are arrays of strings by key, in the
    JSON form of `ir.codec`.
    """

    text: str
    constants: tuple[StoredConstant, ...] = ()
    strings: dict[str, Any] = field(default_factory=dict)


@dataclasses.dataclass(frozen=True, eq=False)
class EngineData:
    """A plan with its machine code and constants: all that an engine file holds.

    `objects` maps a variant's name to its ELF64 relocatable objects; together they define the
    symbols of all kernel steps, and one of them is the compiled driver (`codegen.llvm.driver`).
    `requires` maps a variant to the CPU features it needs. `constants` are (byte offset, array)
    and must not overlap; offsets are multiples of 64. `plans` overrides the plan for variants
    whose steps or packed constants differ (bindings must stay the same). `source` is what a
    symbolic engine keeps to build variants for single shapes.
    """

    plan: Plan
    objects: dict[str, tuple[bytes, ...]] = field(default_factory=dict)
    requires: dict[str, tuple[str, ...]] = field(default_factory=dict)
    constants: tuple[tuple[int, np.ndarray[Any, Any]], ...] = ()
    plans: dict[str, Plan] = field(default_factory=dict)
    source: StoredGraph | None = None

    @property
    def constant_bytes(self) -> int:
        """Size of the constant blob."""
        return max((offset + array.nbytes for offset, array in self.constants), default=0)

    @property
    def format_version(self) -> int:
        """The oldest format that can hold this engine."""
        versions = [plan.format_version for plan in (self.plan, *self.plans.values())]
        return max(*versions, 2 if self.source is not None else 1)

    def plan_of(self, variant: str) -> Plan:
        """The plan that the variant runs."""
        return self.plans.get(variant, self.plan)
