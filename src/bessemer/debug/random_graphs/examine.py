"""What a disagreement is: shortened, known or not, and whether others hide behind it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bessemer.debug.random_graphs.cases import Outcome, try_model
from bessemer.debug.random_graphs.data import Array
from bessemer.debug.random_graphs.deviations import known_deviation
from bessemer.debug.random_graphs.minimise import describe, minimise, with_output
from bessemer.debug.random_graphs.oracles import Rival

_MOST = 8
"""How many known deviations one graph may have."""


@dataclass(frozen=True)
class _Explanation:
    """A section of docs/fuzzing.md, and the node it is about."""

    section: str
    node: str


def examine(outcome: Outcome, rival: Rival, oracle: str, label: str, out: Path | None) -> Outcome:
    """Shortens a finding and writes it, unless it is known; then looks for the next one.

    Returns: what was found first that is not known; else the outcome with the status "known" and
    the sections of docs/fuzzing.md.
    """
    sections: list[str] = []
    excused: set[str] = set()
    found = outcome
    while found.status in ("wrong", "rival") and len(sections) < _MOST:
        model, inputs = _shortened(outcome, found, rival, excused)
        explanation = _explain(model, inputs, rival, outcome.dynamic, excused)
        if explanation is None:
            return _written(outcome, found, (model, inputs), rival, excused, label, out)
        sections.append(explanation.section)
        excused.add(found.output if found.status == "wrong" else explanation.node)
        found = try_model(outcome.model, outcome.inputs, rival, oracle, dynamic=outcome.dynamic,
                          excused=excused)
    if found.status in ("refused", "leak", "crash"):
        model, inputs = _shortened(outcome, found, rival, excused)
        return _written(outcome, found, (model, inputs), rival, excused, label, out)
    outcome.status, outcome.message = "known", ", ".join(sections)
    return outcome


def _shortened(outcome: Outcome, found: Outcome, rival: Rival, excused: Collection[str]
               ) -> tuple[Any, dict[str, Array]]:
    key = found.message.split(":")[0]

    def still_wrong(model: Any, inputs: Mapping[str, Array]) -> bool:
        oracle = "both" if found.status == "rival" else "reference"
        again = try_model(model, dict(inputs), rival, oracle, dynamic=outcome.dynamic,
                          excused=excused)
        return again.status == found.status and (
            found.status != "refused" or again.message.split(":")[0] == key)

    return minimise(outcome.model, outcome.inputs, found.output, still_wrong)


def _explain(model: Any, inputs: dict[str, Array], rival: Rival, dynamic: bool,
             excused: Collection[str]) -> _Explanation | None:
    """The known deviation of a shortened model: of its last node, or else of one before it."""
    found = try_model(model, inputs, rival, dynamic=dynamic, excused=excused)
    section = known_deviation(model, inputs, found)
    if section:
        return _Explanation(section, model.graph.node[-1].name)
    if found.status == "wrong":
        return None
    for node in model.graph.node[:-1]:
        given = {*excused, node.name}
        if try_model(model, inputs, rival, dynamic=dynamic, excused=given).status != "right":
            continue
        start, feed = with_output(model, inputs, node.output[0])
        alone = try_model(start, feed, rival, dynamic=dynamic, excused=excused)
        section = known_deviation(start, feed, alone)
        if section:
            return _Explanation(section, node.name)
    return None


def _written(outcome: Outcome, found: Outcome, short: tuple[Any, dict[str, Array]], rival: Rival,
             excused: Collection[str], label: str, out: Path | None) -> Outcome:
    """The outcome with a text of the finding, which is written to a folder of its own."""
    model, inputs = short
    again = try_model(model, inputs, rival, dynamic=outcome.dynamic, excused=excused)
    how = " (symbols left open)" if outcome.dynamic else ""
    text = f"{label}: {found.status}{how}\n{again.message or found.message}\n"
    text += describe(model, inputs) + "\n"
    outcome.status, outcome.message = found.status, text
    if out is not None:
        folder = out / f"{label}-{found.status}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        (folder / "report.txt").write_text(text)
        # Names are the fuzzer's own, so none is a parameter of savez.
        np.savez(folder / "inputs.npz", **inputs)  # type: ignore[arg-type]
    return outcome
