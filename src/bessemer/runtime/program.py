"""A plan made ready to run: linked code, constants in memory, steps cut into native segments.

Nothing here changes while running, so all contexts of an engine share one program.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from bessemer.core import driver_abi as abi
from bessemer.core.errors import EngineFormatError
from bessemer.engine.plan import BufferRef, EngineData, HostStep, KernelStep, Plan, ShapeStep
from bessemer.runtime.constants import Constants
from bessemer.runtime.linker import LinkedCode
from bessemer.runtime.operators import Operation, make_operation
from bessemer.runtime.places import Place, static_place
from bessemer.runtime.pool import default_threads

# What other threads cost: waking them at the start, meeting them after each step. The speeds are
# those of one core with vector units and data in its caches.
_WAKE_SECONDS = 20e-6
_BARRIER_SECONDS = 1e-6
_FLOPS_PER_SECOND = 50e9
_BYTES_PER_SECOND = 20e9

# Threads share long steps by pieces of about this time, which is long beside taking one. Measured
# on Cascade Lake beside changing loads of other machines: BERT takes 0.92 to 0.95 of the time, ViT
# 0.90 to 0.93, GPT-2 0.98, ResNet-50 0.99, MobileNet 1.00.
_PIECE_SECONDS = 200e-6

# Fewer weights than these stay in the caches anyway.
_MANY_BYTES = 1 << 18


class NativeSegment(NamedTuple):
    """Kernel steps that run in one native call: rows first .. first + jobs of the job table.

    Not `parallel` means on the caller's thread alone; results are the same either way.
    """

    first: int
    jobs: int
    parallel: bool
    steps: tuple[int, ...]


class HostSegment(NamedTuple):
    """One host step with its operator and the bodies that it runs.

    In a symbolic plan the places follow from the shapes.
    """

    step: HostStep
    number: int
    operation: Operation
    bodies: "dict[str, Program]"
    inputs: tuple[Place | None, ...] = ()
    outputs: tuple[Place | None, ...] = ()


class ShapeSegment(NamedTuple):
    """One shape step; place and content follow from the shapes."""

    step: ShapeStep
    number: int
    place: Place | None = None
    content: np.ndarray[Any, Any] | None = None


class EpochSegment(NamedTuple):
    """The beginning of an epoch: from here on more symbols are known."""

    epoch: int


Segment = NativeSegment | HostSegment | ShapeSegment | EpochSegment


class Jobs(NamedTuple):
    """The job table: functions, flags, and where the arguments of each job start.

    A job's arguments are pointers, then scalars; all jobs together have `arguments` of them.
    """

    functions: np.ndarray[Any, Any]
    starts: np.ndarray[Any, Any]
    flags: np.ndarray[Any, Any]
    arguments: int


class Template(NamedTuple):
    """The arguments of a static plan without the addresses that a context fills in.

    `bases` is 0 for what lies in the arena and 1 for what has its address in `offsets` already.
    `patches` are (argument, byte) pairs of the arguments that point into a binding.
    """

    bases: np.ndarray[Any, Any]
    offsets: np.ndarray[Any, Any]
    patches: dict[tuple[str, int], tuple[tuple[int, int], ...]]


class Linked(NamedTuple):
    """Machine code in memory, and the object that holds its driver."""

    code: LinkedCode
    driver: bytes


def link(objects: Sequence[bytes], label: str) -> Linked:
    """Links the objects of a variant. Raises: EngineFormatError if there is no driver in them."""
    code = LinkedCode(objects, label)
    owner = code.owner(abi.RUN)
    if owner is None:
        raise EngineFormatError(
            f"{label} holds no driver of ABI version {abi.DRIVER_ABI} ({abi.RUN}); build it again"
        )
    return Linked(code, objects[owner])


class Program:
    """What the contexts of a plan share."""

    def __init__(
        self, plan: Plan, linked: Linked | None, constants: Constants, label: str
    ) -> None:
        """`linked` may be None if the plan has no kernels.

        Raises: EngineFormatError if a kernel is missing or an operator is unknown.
        """
        self.plan = plan
        self.linked = linked
        self.constants = constants
        self.label = label
        kernels = [step for step in plan.steps if isinstance(step, KernelStep)]
        if kernels and linked is None:
            raise EngineFormatError(f"{label} has kernels but no machine code")
        self.segments = self._cut()
        self.jobs = self._jobs(kernels)
        self.template = None if plan.is_symbolic else self._template(kernels)
        # Of a symbolic plan; made by `stages.stages_of` when first needed.
        self.stages: tuple[Any, ...] = ()
        self.is_native = (
            len(self.segments) == 1 and isinstance(self.segments[0], NativeSegment)
            and all(binding.source is None for binding in plan.outputs)
        )

    @staticmethod
    def of(data: EngineData, variant: str | None, constants: Constants) -> "Program":
        """The program of one variant of an engine. Raises: EngineFormatError."""
        plan = data.plan_of(variant) if variant is not None else data.plan
        label = f"engine {plan.name!r}" + (f" ({variant})" if variant else "")
        linked = None
        plans = (plan, *plan.inner_plans)
        if variant is not None and any(
                isinstance(step, KernelStep) for each in plans for step in each.steps):
            linked = link(data.objects[variant], label)
        return Program(plan, linked, constants, label)

    def _cut(self) -> tuple[Segment, ...]:
        segments: list[Segment] = []
        pending: list[int] = []
        done = 0

        def flush() -> None:
            nonlocal done
            if pending:
                kernels = [self._kernel(index) for index in pending]
                parallel = any(step.parallel for step in kernels) and worth_waking(kernels)
                segments.append(NativeSegment(done, len(pending), parallel, tuple(pending)))
                done += len(pending)
                pending.clear()

        epoch = 0
        for index, step in enumerate((*self.plan.steps, None)):
            while epoch < len(self.plan.epochs) and self.plan.epochs[epoch] == index:
                flush()
                epoch += 1
                segments.append(EpochSegment(epoch))
            if isinstance(step, KernelStep):
                pending.append(index)
            elif step is not None:
                flush()
                segments.append(self._segment(step, index))
        flush()
        return tuple(segments)

    def _segment(self, step: HostStep | ShapeStep, index: int) -> Segment:
        if isinstance(step, ShapeStep):
            return ShapeSegment(step, index)
        bodies = {
            name: Program(body, self.linked, self.constants, f"{self.label}, {step.name} {name}")
            for name, body in step.bodies.items()
        }
        segment = HostSegment(step, index, self._operation(step), bodies)
        if self.plan.is_symbolic:
            return segment
        inputs, outputs = (
            tuple(None if ref is None else static_place(ref) for ref in refs)
            for refs in (step.inputs, step.outputs)
        )
        return segment._replace(inputs=inputs, outputs=outputs)

    def _operation(self, step: HostStep) -> Operation:
        threads = self.plan.options.get("threads")
        return make_operation(
            step, self.label, threads if isinstance(threads, int) else default_threads())

    def _kernel(self, index: int) -> KernelStep:
        step = self.plan.steps[index]
        assert isinstance(step, KernelStep)
        return step

    def _jobs(self, kernels: list[KernelStep]) -> Jobs:
        starts, functions, flags = [], [], []
        count = 0
        for number, step in enumerate(kernels):
            assert self.linked is not None
            starts.append(count)
            functions.append(self.linked.code.address(step.symbol))
            following = kernels[number + 1] if number + 1 < len(kernels) else None
            flags.append(_flags(step, following))
            count += len(step.args) + len(step.scalars)
        return Jobs(
            np.array(functions, np.uint64), np.array(starts, np.uint64),
            np.array(flags, np.uint64), count,
        )

    def _template(self, kernels: list[KernelStep]) -> Template:
        refs: list[BufferRef] = [ref for step in kernels for ref in step.args]
        patches: dict[tuple[str, int], list[tuple[int, int]]] = {}
        bases, offsets = np.zeros(len(refs), np.uint8), np.zeros(len(refs), np.uint64)
        for argument, ref in enumerate(refs):
            space = ref.space
            if space == "arena":
                offsets[argument] = ref.offset
                continue
            bases[argument] = 1
            if space == "constant":
                offsets[argument] = self.constants.address_of(ref.offset, int(ref.size_bytes))
            else:
                patches.setdefault((space, ref.offset), []).append((argument, int(ref.byte)))
        found = {key: tuple(pairs) for key, pairs in patches.items()}
        return Template(bases, offsets, found)


def worth_waking(kernels: Sequence[KernelStep]) -> bool:
    """True if these steps take long enough for other threads to help.

    A step that states neither operations nor bytes may be of any size, so it counts as long.
    """
    if any(step.parallel and not step.flops and not step.bytes for step in kernels):
        return True
    return is_long(
        np.array([step.flops for step in kernels]), np.array([step.bytes for step in kernels]))


def is_long(flops: np.ndarray[Any, Any], moved: np.ndarray[Any, Any]) -> bool:
    """True if steps of so many operations and bytes each take longer than waking other threads."""
    seconds = _seconds(flops, moved).sum()
    return bool(seconds >= _WAKE_SECONDS + _BARRIER_SECONDS * len(flops))


def _seconds(flops: Any, moved: Any) -> Any:
    """Estimated time of so many operations and bytes on one core: numbers or arrays."""
    return np.maximum(flops / _FLOPS_PER_SECOND, moved / _BYTES_PER_SECOND)


def _reads_once(step: KernelStep) -> bool:
    """True if a step reads many weights and each of them once: two operations for four bytes."""
    weights = sum(int(ref.size_bytes) for ref in step.args if ref.space == "constant")
    return weights >= _MANY_BYTES and step.flops <= weights


def _flags(step: KernelStep, following: KernelStep | None) -> int:
    """Two serial steps in a row run on the same thread and need no barrier between them."""
    serial = not step.parallel and following is not None and not following.parallel
    flags = abi.FLAG_BARRIER if step.barrier_after and not serial else 0
    if not step.parallel:
        return flags
    flags |= abi.FLAG_PARALLEL | (abi.FLAG_SWEEP if _reads_once(step) else 0)
    pieces = int(_seconds(step.flops, step.bytes) / _PIECE_SECONDS)
    return flags | min(pieces, abi.MAX_THREADS * abi.MOST_PIECES) << abi.PIECES_SHIFT
