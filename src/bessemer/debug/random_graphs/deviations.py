"""Recognises where a result is known to differ, and why that is no fault of ours.

Each entry of the folder `known` looks at a shortened model, mostly of one node, and says whether it
is that case; docs/fuzzing.md has the sentences.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper

from bessemer.core.errors import BessemerError
from bessemer.core.registry import Registry
from bessemer.debug.random_graphs.cases import Outcome
from bessemer.debug.random_graphs.data import Array
from bessemer.debug.random_graphs.minimise import with_output
from bessemer.debug.random_graphs.oracles import reference_values
from bessemer.ir.interpreter import REFERENCE_ERRORS

_RENAMED = {b"bilinear": b"linear", b"bicubic": b"cubic"}


@dataclass(frozen=True)
class Case:
    """A shortened model that disagrees: its last node, and the two results.

    `differs` says where they differ by more than rounding; None if their shapes do.
    """

    model: Any
    node: Any
    inputs: Mapping[str, Array]
    want: Array
    got: Array
    differs: Array | None = None

    def attribute(self, name: str, default: Any = None) -> Any:
        """The value of an attribute of the last node."""
        for item in self.node.attribute:
            if item.name == name:
                value = onnx.helper.get_attribute_value(item)
                return value.decode() if isinstance(value, bytes) else value
        return default

    def operand(self, position: int) -> Array | None:
        """The data of an input of the last node."""
        name = self.node.input[position] if position < len(self.node.input) else ""
        for tensor in self.model.graph.initializer:
            if tensor.name == name:
                return np.asarray(onnx.numpy_helper.to_array(tensor))
        found = self.inputs.get(name)
        if found is not None or not name:
            return found
        item = reference_values(*with_output(self.model, self.inputs, name))[1].get(name)
        return item if isinstance(item, np.ndarray) else None

    @property
    def operands(self) -> list[Array]:
        """The inputs of the last node that are known."""
        found = [self.operand(k) for k in range(len(self.node.input))]
        return [item for item in found if item is not None]

    def close(self, share: float) -> bool:
        """True if the results differ by no more than a share of the largest number.

        NaN and infinities must be equal.
        """
        if self.want.shape != self.got.shape:
            return False
        a, b = self.want.astype(np.float64), self.got.astype(np.float64)
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        with np.errstate(invalid="ignore"):
            distance = np.abs(a - b)[~same]
        return bool((distance <= share * np.abs(a).max(initial=0, where=np.isfinite(a))).all())

    def differs_by(self, plain: Callable[[Array], Array]) -> bool:
        """True if, wherever the results differ, one of them is not a plain number."""
        if self.differs is None or self.want.dtype.kind not in "fV":
            return False
        sides = (side[self.differs].astype(np.float64) for side in (self.want, self.got))
        return not bool(np.logical_and(*map(plain, sides)).any())

    def evaluated(self, room: float = 1e-4) -> bool:
        """True if ONNX's own evaluator gives what is wanted where it matters, but for `room`."""
        from onnx.reference import ReferenceEvaluator

        model = onnx.ModelProto.FromString(self.model.SerializeToString())
        for node in model.graph.node:
            if onnx.defs.has(node.op_type):
                node.domain = ""  # of com.microsoft, and taken over by the standard
            for item in node.attribute:
                # The evaluator knows only the newest names.
                item.s = _RENAMED.get(item.s, item.s)
        # Whatever the evaluator cannot do, it raises as it comes; then it decides nothing.
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                results = ReferenceEvaluator(model).run(None, dict(self.inputs))
            except (RuntimeError, NotImplementedError, *REFERENCE_ERRORS):
                return False
        return any(self._agrees(np.asarray(result), room) for result in results)

    def _agrees(self, found: Array, room: float) -> bool:
        want = self.want
        if self.differs is not None and want.shape == found.shape:
            want, found = want[self.differs], found[self.differs]
        return _agree(want, found, room)


def _agree(want: Array, found: Array, room: float) -> bool:
    if want.shape != found.shape or want.dtype.kind not in "fiub":
        return want.shape == found.shape and bool((want == found).all())
    return np.allclose(found.astype(np.float64), want.astype(np.float64), 1e-3, room,
                       equal_nan=True)


Known = Callable[[Case], bool]


@dataclass(frozen=True)
class Rule:
    """One deviation: the last operators that it is about, and which cases it is.

    With `undefined`, ONNX leaves the result open, so that our compiled code may differ too.
    """

    operators: tuple[str, ...]
    applies: Known
    undefined: bool = False


KNOWN: Registry[Rule] = Registry(
    "known deviation", "bessemer.debug.random_graphs.known", BessemerError)


def known(section: str, *operators: str, undefined: bool = False) -> Callable[[Known], Known]:
    """Registers a predicate for models that end in an operator."""

    def decorate(function: Known) -> Known:
        KNOWN.add(section, Rule(operators, function, undefined))
        return function

    return decorate


def known_deviation(model: Any, inputs: Mapping[str, Array], found: Outcome) -> str:
    """The section of docs/fuzzing.md that explains what was found; empty if none does."""
    if found.want is None or found.got is None:
        return ""
    case = Case(model, model.graph.node[-1], inputs, found.want, found.got, found.differs)
    ours = found.status == "wrong"
    for section in KNOWN.names():
        rule = KNOWN.get(section)
        if (rule.undefined or not ours) and case.node.op_type in rule.operators and (
                rule.applies(case)):
            return section
    return ""
