"""One case of the fuzzer: a graph made, run three ways, and what came of it."""

import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from bessemer.core.errors import BessemerError
from bessemer.debug.random_graphs.data import Array
from bessemer.debug.random_graphs.maker import make_graph
from bessemer.debug.random_graphs.oracles import (
    Rival,
    extents_of_symbols,
    reference_values,
    run_engine,
)
from bessemer.debug.random_graphs.verdict import Disagreement, Judge
from bessemer.ir.interpreter import REFERENCE_ERRORS

GOOD = ("right",)
ORACLES = ("reference", "onnxruntime", "both")
SYMBOLS = ("open", "fixed", "both")
"""What becomes of symbolic dimensions: left open, fixed when the engine is built, or either."""


@dataclass
class Outcome:
    """What came of a case.

    `status`: right; wrong (engine against reference); rival (ONNX Runtime against reference);
    refused (one of our errors); leak (any other exception). `output` is the disagreeing output.
    """

    status: str
    message: str = ""
    output: str = ""
    want: Array | None = None
    got: Array | None = None
    unstable: int = 0
    nodes: int = 0
    compared: int = 0
    differs: Array | None = None
    dynamic: bool = False
    operators: list[str] = field(default_factory=list)
    model: Any = None
    inputs: dict[str, Array] = field(default_factory=dict)


def try_case(seed: int, index: int, rival: Rival, oracle: str = "both",
             tell: Callable[[str], None] = lambda stage: None, symbols: str = "both",
             focus: Collection[str] = ()) -> Outcome:
    """Makes the graph of a case and runs it; `tell` hears which stage begins."""
    tell("make")
    maker = make_graph(seed, index, focus)
    model, inputs = maker.model(), maker.feed()
    dynamic = maker.symbolic and maker.chance(0.6)
    if symbols != "both":
        dynamic = maker.symbolic and symbols == "open"
    outcome = try_model(model, inputs, rival, oracle, tell, dynamic)
    outcome.dynamic = dynamic
    outcome.nodes = len(model.graph.node)
    outcome.operators = sorted({node.op_type for node in model.graph.node})
    outcome.model, outcome.inputs = model, inputs
    return outcome


def try_model(model: Any, inputs: dict[str, Array], rival: Rival, oracle: str = "both",
              tell: Callable[[str], None] = lambda stage: None, dynamic: bool = False,
              excused: Collection[str] = ()) -> Outcome:
    """Runs a model all ways and compares. `dynamic` leaves symbolic dimensions open.

    `excused` are outputs on which the engine may differ, and nodes whose results ONNX Runtime is
    given.
    """
    try:
        tell("reference")
        graph, values = reference_values(model, inputs)
        judge = Judge(graph, inputs, values)
        tell("engine")
        shapes = None if dynamic else extents_of_symbols(model, inputs)
        found = run_engine(model, inputs, shapes)
    except BessemerError as error:
        return Outcome("refused", f"{type(error).__name__}: {error}"[:600])
    except (RuntimeError, *REFERENCE_ERRORS):
        # Anything but our own errors is a finding, so it is named, not raised.
        return Outcome("leak", traceback.format_exc()[-1500:])
    wrong = judge.compare({name: data for name, data in found.items() if name not in excused})
    if wrong:
        return _disagreement("wrong", wrong[0], judge)
    compared = 0
    if oracle != "reference":
        tell("rival")
        theirs = rival.run(model, inputs, values, excused)
        compared = len(theirs)
        wrong = judge.compare(theirs, flushes=True)
        if wrong:
            return _disagreement("rival", wrong[0], judge)
    return Outcome("right", unstable=judge.unstable, compared=compared)


def _disagreement(status: str, what: Disagreement, judge: Judge) -> Outcome:
    return Outcome(status, what.text, what.name, what.want, what.got, judge.unstable,
                   differs=what.differs)
