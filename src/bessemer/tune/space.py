"""The schedules that a kernel may have: seeds, random ones, and mutations of good ones."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from bessemer.core.errors import ScheduleError
from bessemer.lower.kernel import Kernel
from bessemer.lower.loops import Alloc, statements, static
from bessemer.schedule.rule import Knobs, Rule, Scheduled, applicable_rules, apply_rule
from bessemer.targets.target import Target

_SMALL_CONSTANT = 4096
_OTHER_VALUE = 0.35
"""Share of mutations that take any value of a knob rather than a neighbouring one."""


@dataclass(frozen=True)
class Candidate:
    """A rule and all its knobs, in order of their names."""

    rule: str
    knobs: tuple[tuple[str, int | str], ...]

    @staticmethod
    def of(rule: str, knobs: Knobs) -> "Candidate":
        """A candidate from a rule's knobs."""
        return Candidate(rule, tuple(sorted(knobs.items())))

    @staticmethod
    def parse(rule: str, knobs: str) -> "Candidate":
        """Reads back `knobs_text`. Raises: ValueError."""
        found = json.loads(knobs)
        if not isinstance(found, dict) or not all(
                isinstance(value, int | str) for value in found.values()):
            raise ValueError(f"{knobs!r} is no object of numbers and words")
        return Candidate.of(rule, found)

    @property
    def knobs_text(self) -> str:
        """The knobs as JSON."""
        return json.dumps(dict(self.knobs), separators=(",", ":"))

    def __str__(self) -> str:
        return " ".join([self.rule, *(f"{name}={value}" for name, value in self.knobs)])


@dataclass(frozen=True, eq=False)
class Space:
    """All schedules of one kernel on one chip."""

    kernel: Kernel
    target: Target

    @cached_property
    def rules(self) -> list[Rule]:
        """The rules that apply, the preferred one first."""
        return applicable_rules(self.kernel, self.target)[0]

    @cached_property
    def _sketch(self) -> Kernel:
        """The kernel with zeros for weights: rules need not transform what is only looked at."""
        inputs = [operand if operand.constant is None or operand.constant.size < _SMALL_CONSTANT
                  else replace(operand, constant=np.broadcast_to(
                      np.zeros((), operand.constant.dtype), operand.constant.shape))
                  for operand in self.kernel.inputs]
        return replace(self.kernel, inputs=inputs)

    @cached_property
    def knobs(self) -> dict[str, dict[str, tuple[int | str, ...]]]:
        """The values of each knob of each rule."""
        return {rule.name: rule.space(self.kernel, self.target) for rule in self.rules}

    @cached_property
    def defaults(self) -> dict[str, Knobs]:
        """What each rule chooses by formula."""
        return {rule.name: rule.default(self.kernel, self.target) for rule in self.rules}

    @property
    def size(self) -> int:
        """Number of schedules, roughly: not all of them can be built."""
        return sum(self._sizes)

    @cached_property
    def _sizes(self) -> list[int]:
        return [math.prod(len(values) for values in self.knobs[rule.name].values())
                for rule in self.rules]

    def seeds(self) -> list[Candidate]:
        """Where a search begins: what the rules choose by formula, then what is often good."""
        found = [Candidate.of(rule.name, self.defaults[rule.name]) for rule in self.rules]
        for rule in self.rules:
            for knobs in rule.seeds(self.kernel, self.target):
                found.append(Candidate.of(rule.name, {**self.defaults[rule.name], **knobs}))
        return list(dict.fromkeys(found))

    def randoms(self, rng: np.random.Generator) -> Iterator[Candidate]:
        """Random candidates without end. A larger space is drawn from more often."""
        weights = np.log(np.array(self._sizes) + 1.0)
        weights /= weights.sum()
        while True:
            rule = self.rules[int(rng.choice(len(self.rules), p=weights))]
            knobs = {name: values[int(rng.integers(len(values)))]
                     for name, values in self.knobs[rule.name].items()}
            yield Candidate.of(rule.name, {**self.defaults[rule.name], **knobs})

    def mutate(self, parent: Candidate, rng: np.random.Generator) -> Candidate:
        """The candidate with one or two knobs changed, mostly to a neighbouring value."""
        space = {name: values for name, values in self.knobs[parent.rule].items()
                 if len(values) > 1}
        knobs = dict(parent.knobs)
        if not space:
            return parent
        count = min(len(space), 1 + int(rng.random() < 0.4))
        for name in rng.choice(sorted(space), count, replace=False):
            values = space[str(name)]
            if rng.random() < _OTHER_VALUE:
                knobs[str(name)] = values[int(rng.integers(len(values)))]
            else:
                knobs[str(name)] = _neighbour(values, knobs.get(str(name)), rng)
        return Candidate.of(parent.rule, knobs)

    def cross(self, one: Candidate, other: Candidate, rng: np.random.Generator) -> Candidate:
        """Each knob from one parent or the other; of different rules only the first counts."""
        if one.rule != other.rule:
            return one
        theirs = dict(other.knobs)
        return Candidate(one.rule, tuple(
            (name, theirs[name] if name in theirs and rng.random() < 0.5 else value)
            for name, value in one.knobs))

    def knows(self, candidate: Candidate) -> bool:
        """True if the rule applies and has these knobs: records may be older than both."""
        return candidate.rule in self.knobs and {name for name, _ in candidate.knobs} == {
            *self.defaults[candidate.rule], *self.knobs[candidate.rule]}

    def loops(self, candidate: Candidate, for_use: bool = False) -> Scheduled | None:
        """The loops of a candidate; None if the rule cannot make them or they need too much.

        Unless they are for use they are not verified, and their weights are zeros.
        Raises: VerifyError if the rule made loops that are not sound.
        """
        if not self.knows(candidate):
            return None
        rule = next(rule for rule in self.rules if rule.name == candidate.rule)
        try:
            made = apply_rule(rule, self.kernel if for_use else self._sketch, self.target,
                              "kernel", dict(candidate.knobs), verify=for_use)
        except ScheduleError:
            return None
        # Some spilling is no disaster; transforms of tiles do it by their nature.
        limit = self.target.vector_registers * 5 // 4
        return made if register_vectors(made, self.target) <= limit else None


def register_vectors(scheduled: Scheduled, target: Target) -> int:
    """Vector registers that the largest accumulator takes."""
    sizes = [0]
    for stmt in statements(scheduled.function.body):
        if isinstance(stmt, Alloc) and stmt.buffer.scope == "register":
            lanes = target.lanes(stmt.buffer.dtype)
            wide = static(stmt.buffer.shape[-1:])[0] if stmt.buffer.shape else 1
            sizes.append(stmt.buffer.count // max(wide, 1) * -(-wide // lanes))
    return max(sizes)


def _neighbour(values: Sequence[int | str], value: int | str | None, rng: np.random.Generator
               ) -> int | str:
    """The value beside the given one in the list of values."""
    if value in values:
        at = values.index(value)
    else:  # a formula may choose what the space does not hold
        numbers = [(abs(v - value), k) for k, v in enumerate(values)
                   if isinstance(v, int) and isinstance(value, int)]
        at = min(numbers)[1] if numbers else 0
    step = 1 if rng.random() < 0.5 else -1
    return values[min(max(at + step, 0), len(values) - 1)]
