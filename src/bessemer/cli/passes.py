"""`bessemer passes`: the graph passes in the order in which they run."""

import inspect
from typing import Annotated

import typer

from bessemer.cli.console import print_json, print_table
from bessemer.cli.registry import command


@command("passes", example="bessemer passes --json")
def passes(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the graph passes: order, on or off by default, what each one does.

    A name can be given to 'bessemer build --disable-pass' and 'bessemer inspect --after'. Behind
    them stand methods that are no passes, which '--disable-pass' leaves out as well.
    """
    from bessemer.core.switches import SWITCHES
    from bessemer.passes.graph_pass import PASSES
    from bessemer.passes.pipelines import LAYOUT_PIPELINE, OPTIMIZE_PIPELINE
    from bessemer.passes.runner import pass_names

    order = pass_names((*OPTIMIZE_PIPELINE, *LAYOUT_PIPELINE))
    names = [name for name in order if PASSES.find(name)]
    names += [name for name in PASSES.names() if name not in order]
    rows = [
        {
            "position": order.index(name) + 1 if name in order else None,
            "name": name, "on": name in order, "kind": "pass",
            "what": (inspect.getdoc(PASSES.get(name)) or "").partition("\n\n")[0],
        }
        for name in names
    ]
    rows += [{"position": None, "name": name, "on": True, "kind": "method", "what": what}
             for name, what in SWITCHES.items()]
    if as_json:
        print_json(rows)
        return
    cells = [
        (row["position"] or "-", row["name"], "on" if row["on"] else "off",
         str(row["what"]).replace("\n", " "))
        for row in rows
    ]
    print_table("", ("#", "pass", "default", "what it does"), cells)
