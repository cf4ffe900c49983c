"""The engine: a compiled model ready to run, to save and to look into."""

import dataclasses
import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bessemer.core.errors import InputError, TargetError
from bessemer.engine.check import check_engine
from bessemer.engine.file import write_engine
from bessemer.engine.plan import Binding, EngineData, MemoryReport, MemoryRow, Plan, Step
from bessemer.runtime.bindings import Signature
from bessemer.runtime.constants import Constants
from bessemer.runtime.context import ExecutionContext
from bessemer.runtime.pool import check_threads, default_threads
from bessemer.runtime.program import Program
from bessemer.runtime.report import engine_report, engine_text
from bessemer.runtime.runner import Outputs
from bessemer.runtime.select import choose_variant

if TYPE_CHECKING:
    from concurrent.futures import Future

    from bessemer.runtime.profile import Profile
    from bessemer.runtime.variants import Variants


class Engine:
    """A compiled model. `run` may be called from several threads, which then take turns; contexts
    made by `create_context` run in parallel.
    """

    def __init__(
        self, data: EngineData, constants: Constants | None = None, *, foreign: bool = False
    ) -> None:
        """Makes an engine from data in memory (`bessemer.load` does it from a file).

        `foreign` allows data for other machines only: the engine can then be saved and inspected,
        but not run.

        Raises: EngineFormatError for inconsistent data, TargetError if no variant fits this
        machine.
        """
        check_engine(data)
        if constants is None:
            constants = Constants.gather(data)
            # The gathered copy stands in for the originals, so that they can be freed.
            data = dataclasses.replace(data, constants=((0, constants.blob),))
        self._data = data
        self._constants = constants
        self._program: Program | None = None
        self._variant: str | None = None
        self._unfit: TargetError | None = None
        try:
            self._variant = choose_variant(data.plan.name, data.objects, data.requires)
            self._program = Program.of(data, self._variant, constants)
        except TargetError as error:
            if not foreign:
                raise
            self._unfit = error
        plan = self.plan
        self._signature = Signature(f"engine {plan.name!r}", plan.inputs, plan.outputs)
        self._variants = self._make_variants()
        self._context: ExecutionContext | None = None
        self._lock = threading.Lock()

    def _make_variants(self) -> "Variants | None":
        if self._program is None or self._data.source is None:
            return None
        from bessemer.runtime.variants import make_variants  # static engines do without

        return make_variants(self._data, self._variant, self._constants)

    # --- what it is ------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The model's name."""
        return self.plan.name

    @property
    def plan(self) -> Plan:
        """The plan that this machine runs."""
        return self._data.plan if self._program is None else self._program.plan

    @property
    def variant(self) -> str | None:
        """The machine-code variant in use; None if nothing was compiled or none fits."""
        return self._variant

    @property
    def data(self) -> EngineData:
        """All that a file of this engine holds."""
        return self._data

    @property
    def inputs(self) -> tuple[Binding, ...]:
        """Inputs in order."""
        return self.plan.inputs

    @property
    def outputs(self) -> tuple[Binding, ...]:
        """Outputs in order."""
        return self.plan.outputs

    @property
    def memory(self) -> MemoryReport:
        """What the memory planner decided; a context takes `arena_bytes` of memory."""
        return self.plan.memory

    def program_of(self, variant: str) -> Program:
        """What a variant runs; several may run on this machine.

        Raises: TargetError for an engine that does not run here.
        """
        if self._program is None:
            assert self._unfit is not None
            raise self._unfit
        return Program.of(self._data, variant, self._program.constants)

    def find_layer(self, name: str) -> list[Step]:
        """The steps of that name or made from the source node of that name.

        Raises: InputError with near names if there is none.
        """
        steps = self.plan.steps
        found = [step for step in steps if name == step.name or name in step.sources]
        numbers = {node.step for node in self.plan.nodes if node.name == name and node.step >= 0}
        found += [steps[i] for i in sorted(numbers) if i < len(steps) and steps[i] not in found]
        if not found:
            known = {node.name for node in self.plan.nodes}
            known |= {source for step in steps for source in (step.name, *step.sources)}
            raise InputError(f"engine {self.name!r} has no layer {name!r}{_near(name, known)}")
        return found

    def find_tensor(self, name: str) -> Binding | MemoryRow:
        """The binding or the row of the memory table of that name.

        Raises: InputError with near names if there is none.
        """
        for binding in (*self.inputs, *self.outputs):
            if binding.name == name:
                return binding
        for row in self.memory.table:
            if row.value == name:
                return row
        known = {row.value for row in self.memory.table}
        known |= {binding.name for binding in (*self.inputs, *self.outputs)}
        raise InputError(f"engine {self.name!r} has no tensor {name!r}{_near(name, known)}")

    def inspect(self) -> str:
        """The engine as text: bindings, steps, memory, passes, where each source node went."""
        return engine_text(self.plan, self._data, self.variant, self.variants)

    def describe(self) -> dict[str, Any]:
        """The same as JSON values."""
        return engine_report(self.plan, self._data, self.variant, self.variants)

    def verify(self) -> None:
        """Waits until the constants of a loaded engine were compared with their checksum.

        Who runs the engine need not call this: the first run does. Raises: EngineFormatError.
        """
        self._constants.verify()

    # --- running ---------------------------------------------------------------------------------

    def create_context(self, threads: int | None = None) -> ExecutionContext:
        """A new context with its own arena; `threads` overrides the engine's number.

        That many threads at most: steps too short to be worth waking others run on the caller's
        thread (`runtime.program.worth_waking`). Results do not depend on it.

        Raises: SettingsError for an impossible number, TargetError on a machine that the engine
        was not built for.
        """
        if self._program is None:
            assert self._unfit is not None
            raise self._unfit
        wanted = check_threads(threads)
        if wanted is None:
            built = self.plan.options.get("threads")
            wanted = check_threads(built) if isinstance(built, int) else None
        return ExecutionContext(
            self._program, self._signature, wanted or default_threads(), self._variants)

    def run(self, inputs: Any = None, *, outputs: Mapping[str, Any] | None = None) -> Outputs:
        """One inference, as `ExecutionContext.run`, in a context that the engine keeps."""
        return self._own_context().run(inputs, outputs=outputs)

    __call__ = run

    def enqueue(
        self, inputs: Any = None, *, outputs: Mapping[str, Any] | None = None
    ) -> "Future[Outputs]":
        """Starts `run` in the background."""
        return self._own_context().enqueue(inputs, outputs=outputs)

    def profile(self, inputs: Any = None, *, runs: int = 10, warmup: int = 2) -> "Profile":
        """Time by step, as `ExecutionContext.profile`."""
        return self._own_context().profile(inputs, runs=runs, warmup=warmup)

    # --- variants for single shapes --------------------------------------------------------------

    @property
    def variants(self) -> list[dict[str, Any]]:
        """Static variants for single shapes: built, wanted, failed, and why."""
        return [] if self._variants is None else self._variants.report()

    def specialise(self, values: Mapping[str, int]) -> None:
        """Builds a variant for these values of the symbols now; later runs of that shape use it.

        Without this call shapes that are run often get one in the background. Results of a variant
        may differ in the last bits.

        Raises: InputError for wrong symbols or an engine without any; what building raises.
        """
        if self._variants is None or not self._variants.names:
            raise InputError(
                f"engine {self.name!r} stores no graph to specialise; build it with symbolic "
                "dimensions, such as an input of shape (\"N\", 3, 224, 224)"
            )
        self._variants.build(self._variants.key_of(values))

    def wait_specialised(self, timeout: float | None = None) -> bool:
        """Waits until variants that are being built are ready; False after `timeout` seconds."""
        return self._variants is None or self._variants.wait(timeout)

    def _own_context(self) -> ExecutionContext:
        context = self._context
        if context is None:
            with self._lock:
                if self._context is None:
                    self._context = self.create_context()
                context = self._context
        return context

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the engine file, atomically; the same engine gives the same bytes.

        Raises: OSError if the folder cannot be written, EngineFormatError if it was loaded from a
        file that is damaged.
        """
        self.verify()
        write_engine(path, self._data)

    def __repr__(self) -> str:
        return (
            f"<Engine {self.name!r}: {len(self.inputs)} inputs, {len(self.outputs)} outputs, "
            f"{len(self.plan.steps)} steps, {self.variant or 'no machine code'}>"
        )


def _near(name: str, known: set[str]) -> str:
    import difflib  # of use to errors only

    near = difflib.get_close_matches(name, sorted(known), n=3)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
