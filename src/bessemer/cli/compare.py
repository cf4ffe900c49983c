"""`bessemer compare`: the same inputs through Bessemer and another runtime; the worst tensors."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bessemer.cli.console import print_json, print_table, print_text
from bessemer.cli.options import Disable, Inputs, Json, Model, Seed, Shapes, Threads
from bessemer.cli.registry import command

if TYPE_CHECKING:
    from bessemer.debug.compare import Comparison

Against = Annotated[
    str, typer.Option(help="onnxruntime, or reference (Bessemer's own numpy interpreter).")
]
AllTensors = Annotated[
    bool, typer.Option("--all-tensors", help="Compare every intermediate tensor too.")
]
Tolerance = Annotated[
    float | None,
    typer.Option(help="Allowed norm error; default: 1e-4 for f32, by dtype for others."),
]
Worst = Annotated[int, typer.Option("--worst", help="How many tensors to print.")]


@command("compare", example="bessemer compare model.onnx --against onnxruntime --all-tensors")
def compare(
    model: Model,
    against: Against = "onnxruntime",
    all_tensors: AllTensors = False,
    inputs: Inputs = None,
    seed: Seed = 0,
    shapes: Shapes = None,
    tolerance: Tolerance = None,
    threads: Threads = None,
    disable: Disable = None,
    worst: Worst = 10,
    as_json: Json = False,
) -> None:
    """Run a model by Bessemer and by something independent, and print the worst tensors.

    Inputs that are not given are random. The norm error is |ours - theirs| / |theirs|. Ends with
    exit code 1 if a tensor is beyond its tolerance.
    """
    run_comparison(
        model, against, all_tensors, inputs, seed, shapes, tolerance, threads, disable, worst,
        as_json,
    )


def run_comparison(
    model: Path, against: str, all_tensors: bool, inputs: list[str] | None, seed: int,
    shapes: list[str] | None, tolerance: float | None, threads: int | None,
    disable: list[str] | None, worst: int, as_json: bool,
) -> None:
    """The work of `compare` and `debug compare`."""
    from bessemer.bench.inputs import parse_sizes, read_arrays
    from bessemer.debug.compare import compare_model, input_specs
    from bessemer.frontends import import_model

    given = read_arrays(inputs, input_specs(import_model(model))) if inputs else None
    comparison = compare_model(
        model, given, against=against, all_values=all_tensors, tolerance=tolerance, seed=seed,
        sizes=parse_sizes(shapes or []), threads=threads, disable=tuple(disable or ()),
    )
    print_comparison(comparison, worst, as_json)
    if not comparison.agrees:
        raise typer.Exit(1)


def print_comparison(comparison: "Comparison", worst: int, as_json: bool) -> None:
    """The comparison as a table of the worst tensors, or as JSON with all of them."""
    if as_json:
        print_json({
            "agrees": comparison.agrees, "against": comparison.against,
            "tensors": comparison.differences, "missing": comparison.missing,
        })
        return
    rows = [
        (d.name, f"{d.dtype}[{','.join(map(str, d.shape))}]", f"{d.norm_error:.2e}",
         f"{d.max_absolute:.2e}", f"{d.max_relative:.2e}", str(list(d.where)),
         f"{d.expected:.6g}", f"{d.found:.6g}", d.reason or ("ok" if d.within else "BEYOND"))
        for d in comparison.worst(worst)
    ]
    head = ("tensor", "type", "norm error", "max abs", "max rel", "where", comparison.against,
            "bessemer", "verdict")
    print_table("", head, rows)
    beyond = sum(not d.within for d in comparison.differences)
    if comparison.missing:
        print_text(f"not compared, only on one side: {', '.join(comparison.missing[:10])}")
    print_text(
        f"{len(comparison.differences)} tensors compared with {comparison.against}, "
        f"{beyond} beyond tolerance" + ("" if comparison.differences else ": nothing to compare")
    )
