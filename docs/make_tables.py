"""Writes docs/operators.md and docs/passes.md from the registries.

python docs/make_tables.py
"""

import dataclasses
from pathlib import Path

from bessemer.core.registry import OPERATORS
from bessemer.ir.operator import Operator, operator_class
from bessemer.passes.graph_pass import PASSES
from bessemer.passes.pipelines import LAYOUT_PIPELINE, OPTIMIZE_PIPELINE
from bessemer.passes.runner import pass_names

FOLDER = Path(__file__).parent
_OPERATORS = """# Operators

Every operator of the table, written by `python docs/make_tables.py`. Names without a prefix are
those of ONNX and mean what the newest opset says; older opsets are translated. "compiled" means
that there is a tensor expression; a use that it cannot express, and every other operator, runs by
its numpy reference on the host, and `bessemer inspect` says so.

| operator | runs | fusion class | attributes | meaning |
|---|---|---|---|---|
"""
_PASSES = """# Graph passes

Every graph pass in the order in which they run, written by `python docs/make_tables.py`.
`--disable-pass NAME` leaves one out.

| pass | runs by default | what it does |
|---|---|---|
"""


def summary(thing: type) -> str:
    """The first paragraph of a docstring on one line, fit for a table."""
    paragraph = (thing.__doc__ or "").strip().split("\n\n")[0]
    return " ".join(paragraph.split()).replace("|", "\\|")


def operator_row(name: str) -> str:
    """One line of the operator table."""
    entry: type[Operator] = operator_class(name)
    names = ", ".join(field.name for field in dataclasses.fields(entry))  # type: ignore[arg-type]
    runs = "compiled" if entry.has_lowering() else "host"
    return f"| {name} | {runs} | {entry.fusion.value} | {names} | {summary(entry)} |\n"


def pass_row(name: str, *, runs: bool) -> str:
    """One line of the table of passes."""
    return f"| {name} | {'yes' if runs else 'no'} | {summary(PASSES.get(name))} |\n"


def main() -> None:
    """Writes both pages."""
    rows = [operator_row(name) for name in OPERATORS.names()]
    (FOLDER / "operators.md").write_text(_OPERATORS + "".join(rows))
    order = [
        name for name in pass_names((*OPTIMIZE_PIPELINE, *LAYOUT_PIPELINE)) if PASSES.find(name)
    ]
    others = [name for name in PASSES.names() if name not in order]
    rows = [pass_row(name, runs=name in order) for name in (*order, *others)]
    (FOLDER / "passes.md").write_text(_PASSES + "".join(rows))


if __name__ == "__main__":
    main()
