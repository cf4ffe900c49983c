"""Writes docs/passes.md from the registry of passes.

python docs/make_tables.py
"""

from pathlib import Path

from bessemer.core.switches import SWITCHES
from bessemer.passes.graph_pass import PASSES
from bessemer.passes.pipelines import LAYOUT_PIPELINE, OPTIMIZE_PIPELINE
from bessemer.passes.runner import pass_names

FOLDER = Path(__file__).parent
_PASSES = """# Graph passes

Every graph pass in the order in which they run, written by `python docs/make_tables.py`.
`--disable-pass NAME` leaves one out.

| pass | runs by default | what it does |
|---|---|---|
"""
_SWITCHES = """
Besides passes, `--disable-pass` and `disable=[...]` leave these methods out:

| name | what it is |
|---|---|
"""


def summary(thing: type) -> str:
    """The first paragraph of a docstring on one line, fit for a table."""
    paragraph = (thing.__doc__ or "").strip().split("\n\n")[0]
    return " ".join(paragraph.split()).replace("|", "\\|")


def pass_row(name: str, *, runs: bool) -> str:
    """One line of the table of passes."""
    return f"| {name} | {'yes' if runs else 'no'} | {summary(PASSES.get(name))} |\n"


def main() -> None:
    """Writes the page."""
    order = [
        name for name in pass_names((*OPTIMIZE_PIPELINE, *LAYOUT_PIPELINE)) if PASSES.find(name)
    ]
    others = [name for name in PASSES.names() if name not in order]
    rows = [pass_row(name, runs=name in order) for name in (*order, *others)]
    switches = [f"| {name} | {what} |\n" for name, what in SWITCHES.items()]
    (FOLDER / "passes.md").write_text("".join([_PASSES, *rows, _SWITCHES, *switches]))


if __name__ == "__main__":
    main()
