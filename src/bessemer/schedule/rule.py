"""The base of schedule rules and their registry; `make_loops` picks the first rule that applies."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from bessemer.core.errors import ScheduleError
from bessemer.core.registry import Registry
from bessemer.lower.hoist import hoist
from bessemer.lower.kernel import Kernel, Operand
from bessemer.lower.loop_verifier import verify_function
from bessemer.lower.loops import Function, Stmt
from bessemer.schedule.memory import Memory, border
from bessemer.targets.target import Target

Knobs = dict[str, int | str]
LOGGER = logging.getLogger("bessemer.schedule")


class Rule:
    """One way to schedule a class of kernels.

    `priority` orders the rules: higher ones are asked first.
    """

    name: ClassVar[str] = ""
    priority: ClassVar[int] = 0

    def matches(self, kernel: Kernel, target: Target) -> str:
        """Empty if the rule applies, else why it does not."""
        raise NotImplementedError

    def space(self, kernel: Kernel, target: Target) -> dict[str, tuple[int | str, ...]]:
        """Legal values of each knob."""
        return {}

    def default(self, kernel: Kernel, target: Target) -> Knobs:
        """Knobs by formula, without measuring."""
        return {}

    def seeds(self, kernel: Kernel, target: Target) -> list[Knobs]:
        """Knobs that are often good, where a search begins; what they leave out is the default."""
        return []

    def advised(self, kernel: Kernel, target: Target) -> str:
        """Empty if the rule should be taken without measuring, else why another one is better."""
        return ""

    def build(self, kernel: Kernel, knobs: Mapping[str, Any], memory: Memory, target: Target
              ) -> tuple[list[Stmt], str]:
        """The statements and the schedule's text."""
        raise NotImplementedError


RULES: Registry[type[Rule]] = Registry("schedule rule", "bessemer.schedule.rules", ScheduleError)

R = TypeVar("R", bound=type[Rule])


def schedule_rule(name: str, priority: int) -> Callable[[R], R]:
    """Registers a rule."""

    def decorate(cls: R) -> R:
        cls.name, cls.priority = name, priority
        RULES.add(name, cls)
        return cls

    return decorate


@dataclass(frozen=True)
class Scheduled:
    """Loops of a kernel: the function, its operands in argument order, and how it was made.

    `runner_up` says in words which other schedule came nearest when several were timed.
    """

    function: Function
    operands: tuple[Operand, ...]
    rule: str
    knobs: Knobs
    text: str
    refused: tuple[str, ...] = ()
    runner_up: str = ""


def applicable_rules(kernel: Kernel, target: Target) -> tuple[list[Rule], list[str]]:
    """The rules that apply, best first, and why the others do not.

    The kernel's note "without" names rules that are switched off.
    """
    rules: list[Rule] = []
    later: list[Rule] = []
    refused = []
    entries = [RULES.get(name) for name in RULES.names()]
    for cls in sorted(entries, key=lambda rule: (-rule.priority, rule.name)):
        without = cls.name in kernel.notes.get("without", ())
        reason = "switched off" if without else cls().matches(kernel, target)
        if reason:
            refused.append(f"{cls.name}: {reason}")
            continue
        advice = cls().advised(kernel, target)
        if advice:
            refused.append(f"{cls.name}: {advice}")
        (later if advice else rules).append(cls())
    return [*rules, *later], refused


def has_advised_rule(kernel: Kernel, target: Target) -> bool:
    """True if some rule should be taken for the kernel; else it is better cut, if it can be."""
    rules, _ = applicable_rules(kernel, target)
    return bool(rules) and not rules[0].advised(kernel, target)


def make_loops(kernel: Kernel, target: Target, name: str, rule: str = "",
               knobs: Knobs | None = None) -> Scheduled:
    """Loop IR of a kernel by a named rule, or by the first that applies, with default knobs.

    Raises: ScheduleError if no rule applies; the message holds each rule's reason. VerifyError if
    the rule made loops that are not sound.
    """
    rules, refused = applicable_rules(kernel, target)
    for chosen in (each for each in rules if not rule or each.name == rule):
        picked = {**chosen.default(kernel, target), **(knobs or {})}
        try:
            return apply_rule(chosen, kernel, target, name, picked, tuple(refused))
        except ScheduleError as error:
            if rule:
                raise
            # Slower, not wrong: but the rule's default should fit whatever it matches.
            LOGGER.warning("kernel %s: rule %s does not fit: %s", kernel.name, chosen.name, error)
            refused.append(f"{chosen.name}: {error}")
    raise ScheduleError(f"no schedule rule for kernel {kernel.name}: {'; '.join(refused)}")


def apply_rule(rule: Rule, kernel: Kernel, target: Target, name: str, knobs: Knobs,
               refused: tuple[str, ...] = (), verify: bool = True) -> Scheduled:
    """Loop IR of a kernel by one rule; the kernel itself stays as it is.

    `verify` False is for loops that are only looked at. Raises: ScheduleError, VerifyError.
    """
    own = Kernel(kernel.name, kernel.inputs, kernel.outputs, kernel.sources, kernel.notes)
    memory = Memory(own, target.lanes(own.outputs[0].dtype))
    body, text = rule.build(own, knobs, memory, target)
    for operand in own.outputs:
        if operand.layout.has_halo:
            lanes = target.lanes(operand.dtype)
            body += border(memory.buffer(operand), operand.layout, operand.shape, lanes)
    LOGGER.debug("%s: rule %s %s", own.name, rule.name, knobs)
    operands = tuple(own.operand(o.tensor) or o for o in memory.order)
    function = memory.function(name, hoist(body))
    if verify:
        verify_function(function)
    return Scheduled(function, operands, rule.name, knobs, text, refused)
