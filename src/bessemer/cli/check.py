"""`bessemer check`: can this model be built, and what becomes of each node; nothing is built."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bessemer.cli.console import print_json, print_table, print_text
from bessemer.cli.options import FallbackNodes, Fallbacks
from bessemer.cli.registry import command

if TYPE_CHECKING:
    from bessemer.frontends.onnx import CheckReport

_SHOWN = 40


@command("check", example="bessemer check model.onnx")
def check(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="An ONNX file.")],
    fallbacks: Fallbacks = None,
    fallback_nodes: FallbackNodes = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Report what would happen to each node of a model, without building it.

    Every unsupported node is listed with its name, operator and opset, and what to do. Ends with
    exit code 1 if the model cannot be built.
    """
    from bessemer.frontends.formats import Fallback
    from bessemer.frontends.onnx import check_model

    report = check_model(model, Fallback(tuple(fallbacks or ()), tuple(fallback_nodes or ())))
    if as_json:
        print_json(report.as_dict())
    else:
        _print_report(report)
    if not report.ok:
        raise typer.Exit(1)


def _print_report(report: "CheckReport") -> None:
    opsets = ", ".join(f"{name or 'ai.onnx'} {number}" for name, number in report.opsets.items())
    print_text(f"{report.source}: IR version {report.ir_version}, opsets {opsets}"
               + (f", made by {report.producer}" if report.producer else ""))
    for word, entries in (("input", report.inputs), ("output", report.outputs)):
        for name, kind in entries:
            print_text(f"  {word} {name}: {kind}")
    rows = [(name, kind, count) for name, kind, count in report.histogram()]
    print_table("", ("operator", "how it runs", "nodes"), rows)
    _print_list("runs by its numpy reference on the host (slow)",
                [f"{node.path}: {node.op_type}" for node in report.opaque])
    _print_list("left to onnxruntime",
                [f"{node.path}: {node.op_type}" for node in report.offloaded])
    _print_list("warning", list(report.warnings))
    _print_list("unsupported", [str(node) for node in report.unsupported])
    _print_list("problem", list(report.problems))
    if report.ok:
        print_text(f"ok: all {len(report.nodes)} nodes can be built")
    elif report.unsupported:
        print_text(
            f"not ok: {len(report.unsupported)} of {len(report.nodes)} nodes are unsupported; add "
            "the operators as plugins (bessemer.plugin), leave them to ONNX Runtime "
            "(--allow-fallback onnxruntime), or export the model without them"
        )
    else:
        print_text("not ok: the model cannot be imported")


def _print_list(word: str, lines: list[str]) -> None:
    for line in lines[:_SHOWN]:
        print_text(f"{word}: {line}")
    if len(lines) > _SHOWN:
        print_text(f"{word}: ... and {len(lines) - _SHOWN} more (all with --json)")
