"""Runs a plan with symbols: binds them, looks up what follows from their values, and runs that."""

import math
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from bessemer.core.errors import ExecutionError
from bessemer.runtime.bindings import Signature, address_of, make_output
from bessemer.runtime.frame import Frame, use_given
from bessemer.runtime.log import log
from bessemer.runtime.memory import Region
from bessemer.runtime.operators import own
from bessemer.runtime.places import Place
from bessemer.runtime.profile import Recorder
from bessemer.runtime.program import HostSegment, ShapeSegment
from bessemer.runtime.runner import Outputs, Runner
from bessemer.runtime.stages import stages_of
from bessemer.runtime.state import State
from bessemer.runtime.symbols import (
    InputRules,
    StepRules,
    UnusualShapesError,
    output_rules,
)
from bessemer.runtime.tables import Tables
from bessemer.runtime.variants import Variant, Variants

MAX_STATES = 32
"""So many shapes are remembered for each epoch; others are evaluated again when they come back."""

States = OrderedDict[Any, State]


class SymbolicRunner(Runner):
    """The way of a symbolic plan. Memory grows to the largest shape seen and never shrinks.

    With `variants`, shapes that have one are run by it, and inputs for which the plan takes too
    much for granted by the general variant.
    """

    _general: "SymbolicRunner | None" = None
    _leaves_early = False
    """True once a run got as far as a step before it went to the general variant."""

    def _place(self) -> None:
        plan, label = self.program.plan, self.program.label
        self._stages = stages_of(self.program)
        self._regions = [Region(0) for _ in self._stages]
        self._arenas = [np.empty(0, np.uint8) for _ in self._stages]
        self._bases = np.zeros(len(self._stages) + 1, np.uint64)
        self._generation = 0
        self.tables = Tables(self.program)
        self._active: list[State | None] = [None] * len(self._stages)
        self._by_shape: States = OrderedDict()
        self._by_value: list[States] = [OrderedDict() for _ in self._stages]
        self._dtypes = [spec.dtype for spec in self.signature.inputs]
        self._rules = InputRules(plan, label)
        self._step_rules = {
            segment.number: StepRules(plan, segment.number, label)
            for segment in self.program.segments if isinstance(segment, HostSegment)
        }
        self._output_rules = output_rules(plan)
        self._runners: dict[Variant, Runner] = {}
        self._serving: Runner = self
        self._takes_for_granted = plan.takes_for_granted

    @property
    def arena_bytes(self) -> int:
        """Bytes planned for the shapes of the last run; 0 before the first."""
        if self._serving is not self:
            return self._serving.arena_bytes
        return sum(state.arena_bytes for state in self._active if state is not None)

    @property
    def arenas(self) -> list[np.ndarray[Any, Any]]:
        """The memory of each epoch, as large as the largest run needed it."""
        return self._arenas

    def clear_zeroed(self) -> None:
        """Zeroes the parts of the arenas that kernels expect so."""
        for state in self._active:
            for epoch, start, size in () if state is None else state.zeroed:
                self._arenas[epoch][start : start + size] = 0

    def work(self) -> dict[int, tuple[int, int]]:
        """Operations and bytes of the last run, of the steps where they depend on shapes."""
        found: dict[int, tuple[int, int]] = {}
        for stage, state in zip(self._stages, self._active, strict=True):
            found |= {} if state is None else stage.work(state)
        return found

    def prepared(self, inputs: Any) -> Runner:
        """The runner that serves inputs of these shapes; one run made its memory ready."""
        self.run(inputs)
        return self._serving

    def close(self) -> None:
        """Frees the memory; nothing can run afterwards."""
        general = () if self._general is None else (self._general,)
        for inner in (*self._inner, *self._runners.values(), *general):
            inner.close()
        self._arenas = []
        self._by_shape.clear()
        for region in self._regions:
            region.close()
        self.tables.close()

    # --- one run ---------------------------------------------------------------------------------

    def run(
        self, inputs: Any, given: Mapping[str, Any] | None = None,
        recorder: Recorder | None = None,
    ) -> Outputs:
        """One inference, as `ExecutionContext.run`; times of host steps go to the recorder."""
        variants = self.variants
        if variants is None:
            return self._run(inputs, given, recorder, None)
        if self._leaves_early:
            return self._run_generally(variants, inputs, given)
        try:
            # A recorder belongs to one program, so it decides who runs.
            return self._run(inputs, given, recorder, None if recorder is not None else variants)
        except UnusualShapesError as error:
            if self._takes_for_granted:
                log("debug", "%s", error)
        if self._takes_for_granted:
            return self._run_generally(variants, inputs, given)
        return self._run(inputs, given, recorder, None)  # only the variant for its shapes does

    def _run_generally(
        self, variants: Variants, inputs: Any, given: Mapping[str, Any] | None
    ) -> Outputs:
        """One inference by the variant for all shapes, which is built when first needed."""
        general = self._general
        if general is None:
            program = variants.general()
            plan = program.plan
            signature = Signature(self.signature.label, plan.inputs, plan.outputs)
            made = self._make(program, signature, self.threads_wanted)
            assert isinstance(made, SymbolicRunner)
            general = self._general = made
            general.variants = variants
        outputs = general.run(inputs, given)
        self._serving = general._serving
        return outputs

    def _run(
        self, inputs: Any, given: Mapping[str, Any] | None, recorder: Recorder | None,
        variants: Variants | None,
    ) -> Outputs:
        arrays, state = self._enter(self.signature.listed(inputs))
        self._serving = self
        if variants is not None:
            chosen = self._variant(variants, state)
            if chosen is not None:
                self._serving = chosen
                return chosen.run(arrays, given)
        self._activate(0, state)
        made = self._outputs(state, [None] * len(state.specs))
        if given is not None:
            use_given(self.signature, given, made, arrays, self._mask, state.specs)
        self._bind(state, arrays, made)
        if self.program.is_native:
            self._call(0)
        else:
            self._run_epochs(state, arrays, made, recorder)
        if given:
            self._deliver(given, made)
        return dict(zip(self._names, made))

    def _variant(self, variants: Variants, state: State) -> Runner | None:
        """The runner of a variant for the shapes of a state, if there is one."""
        if state.version != variants.version:
            state.version, state.counts = variants.version, True
            state.variant = variants.find(self._fixed(variants, state))
            self._drop(variants)
        found = state.variant
        if found is None:
            if state.counts:
                state.counts = variants.note(self._fixed(variants, state))
            return None
        found.used = next(variants.clock)
        runner = self._runners.get(found)
        if runner is None:
            plan = found.program.plan
            signature = Signature(self.signature.label, plan.inputs, plan.outputs)
            runner = self._make(found.program, signature, self.threads_wanted)
            self._runners[found] = runner
        return runner

    def _fixed(self, variants: Variants, state: State) -> tuple[int, ...]:
        """The values of the symbols that variants fix."""
        known = {symbol.name: value for symbol, value in zip(
            self.program.plan.symbols, state.values, strict=True)}
        return tuple(known[name] for name in variants.names)

    def _drop(self, variants: Variants) -> None:
        """Frees the runners of variants that had to go."""
        present = variants.present()
        for gone in [variant for variant in self._runners if variant not in present]:
            self._runners.pop(gone).close()

    def _enter(self, arrays: list[Any]) -> tuple[list[Any], State]:
        """The inputs as arrays, and the state of epoch 0 for their shapes. Raises: InputError."""
        key = self._key(arrays)
        state = self._by_shape.get(key)
        if state is not None:
            if state is not self._active[0]:
                self._by_shape.move_to_end(key)
            return arrays, state
        arrays = self.signature.converted(arrays)
        key = self._key(arrays)
        state = self._by_shape.get(key)
        if state is None:
            state = self._stages[0].evaluate(self._rules.values(arrays), None)
            _remember(self._by_shape, key, state)
        return arrays, state

    def _key(self, arrays: list[Any]) -> Any:
        """What decides the state: the shapes of right inputs; None if one needs conversion."""
        shapes: list[Any] = []
        for array, dtype in zip(arrays, self._dtypes):
            if dtype is None:
                continue
            if type(array) is not np.ndarray or array.dtype != dtype:
                return None
            shapes.append(array.shape)
        if self._rules.reads_content:
            shapes.append(self._rules.contents(arrays))
        return tuple(shapes)

    def _activate(self, epoch: int, state: State) -> None:
        """Makes memory and arguments ready for the state."""
        if state.arena_bytes > len(self._arenas[epoch]):
            self._grow(epoch, state.arena_bytes)
        stage = self._stages[epoch]
        if state.generation != self._generation:
            state.table = self._bases[stage.bases] + state.relative
            state.generation = self._generation
        elif self._active[epoch] is state:
            return
        self._active[epoch] = state
        self.tables.arguments[stage.first : stage.last] = state.table
        for number, parallel in state.parallel:
            self.tables.share(number, parallel)
        for place, start, size in state.zeroed:
            self._arenas[place][start : start + size] = 0

    def _grow(self, epoch: int, size_bytes: int) -> None:
        # Nothing lives in the arena of an epoch that has not begun.
        self._arenas[epoch] = np.empty(0, np.uint8)
        self._regions[epoch] = region = Region(size_bytes, huge=True)
        self._arenas[epoch] = region.array()
        self._bases[epoch] = region.address
        self._generation += 1

    def _outputs(self, state: State, made: list[Any]) -> list[Any]:
        """The outputs, with new arrays for those whose shape is known now."""
        try:
            return [
                make_output(spec, self._mask) if array is None and spec is not None else array
                for array, spec in zip(made, state.specs)
            ]
        except MemoryError as error:
            raise ExecutionError(f"{self.program.label}: no memory for outputs: {error}") from None

    def _bind(self, state: State, arrays: list[Any], made: list[Any]) -> None:
        """Points the kernels of an epoch at these arrays."""
        for index, patches in state.inputs:
            self.tables.point(patches, self.tables.input_address(index, arrays[index]))
        for index, patches in state.outputs:
            self.tables.point(patches, address_of(made[index]))

    def _run_epochs(
        self, state: State, arrays: list[Any], made: list[Any], recorder: Recorder | None
    ) -> None:
        frame = Frame(self._arenas, self.program.constants, arrays, made,
                      [None] * self.program.plan.host_slots)
        values = list(state.values)
        late: dict[tuple[int, int], Any] = {}
        for epoch in range(len(self._stages)):
            if epoch:
                state = self._next_state(epoch, values, state)
                self._activate(epoch, state)
                made[:] = self._outputs(state, made)
                self._check_outputs(state, made)
                self._bind(state, arrays, made)
                for number, index, place in state.arrivals:
                    self._arrive(frame, late.pop((number, index)), number, place)
            for segment in state.segments:
                if isinstance(segment, int):
                    self._call(segment)
                    continue
                start = time.perf_counter_ns()
                self._run_host(frame, segment, values, late, epoch)
                if recorder is not None:
                    recorder.add_host(segment.number, time.perf_counter_ns() - start)
        for index, source in state.fetches:
            frame.fetch(source, index)
        found, shapes = self._output_rules
        names = [f"output {self._names[i]!r}" for i in found]
        shapes.check([np.shape(made[i]) for i in found], values, names, ExecutionError,
                     self.program.label)

    def _run_host(
        self, frame: Frame, segment: HostSegment | ShapeSegment, values: list[int],
        late: dict[tuple[int, int], Any], epoch: int,
    ) -> None:
        if isinstance(segment, ShapeSegment):
            frame.run_shape(segment)
            return
        try:
            results = frame.run_host(segment, self._bodies.get(segment.number))
            self._step_rules[segment.number].apply(results, values)
        except UnusualShapesError:
            self._leaves_early = True
            raise
        for index in self._stages[epoch].later[segment.number]:
            late[segment.number, index] = own(results[index])

    def _next_state(self, epoch: int, values: list[int], before: State) -> State:
        known, key = self._by_value[epoch], tuple(values)
        state = known.get(key)
        if state is None:
            state = self._stages[epoch].evaluate(values, before)
            _remember(known, key, state)
        else:
            known.move_to_end(key)
        return state

    def _arrive(self, frame: Frame, result: Any, number: int, place: Place) -> None:
        """Copies a result of an earlier step into its block, which now has a size."""
        operation = next(s.operation for s in self.program.segments
                         if isinstance(s, HostSegment) and s.number == number)
        np.copyto(frame.value(place), operation.fit(result, place))

    def _check_outputs(self, state: State, made: list[Any]) -> None:
        """Outputs that host steps gave before their shapes were known: now they get these shapes.

        A step gives the array under its own shape, which a Reshape behind it may have changed.
        """
        for index, (spec, array) in enumerate(zip(state.specs, made, strict=True)):
            if spec is None:
                continue
            shape = spec.shape or ()
            if not isinstance(array, np.ndarray) or array.size != math.prod(shape) \
                    or array.dtype != spec.dtype or not array.flags.c_contiguous:
                raise ExecutionError(
                    f"{self.program.label}: output {spec.binding.name!r} is not "
                    f"{spec.binding.dtype}{list(shape)}"
                )
            made[index] = array if array.shape == shape else array.reshape(shape)


def _remember(known: States, key: Any, state: State) -> None:
    known[key] = state
    if len(known) > MAX_STATES:
        known.popitem(last=False)
