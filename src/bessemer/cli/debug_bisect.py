"""`bessemer debug bisect`: the first pass, else the first kernel, that breaks a result."""

import typer

from bessemer.cli.compare import Tolerance
from bessemer.cli.console import print_json, print_text, progress_bar
from bessemer.cli.options import Disable, Inputs, Json, Model, Seed, Shapes, Threads
from bessemer.cli.registry import command


@command("bisect", group="debug", example="bessemer debug bisect model.onnx --input x=bad.npy")
def debug_bisect(
    model: Model,
    inputs: Inputs = None,
    seed: Seed = 0,
    shapes: Shapes = None,
    tolerance: Tolerance = None,
    threads: Threads = None,
    disable: Disable = None,
    as_json: Json = False,
) -> None:
    """Name the first pass, else the first kernel, after which the result is wrong.

    The reference interpreter's result on the imported model is what is right. Ends with exit code
    1 if something wrong was found.
    """
    from bessemer.bench.inputs import parse_sizes, read_arrays
    from bessemer.debug.compare import input_specs
    from bessemer.debug.opening import bisect_model
    from bessemer.frontends import import_model

    given = read_arrays(inputs, input_specs(import_model(model))) if inputs else None
    with progress_bar("bisect") as on_progress:
        finding = bisect_model(
            model, given, sizes=parse_sizes(shapes or []), seed=seed, tolerance=tolerance,
            threads=threads, disable=tuple(disable or ()), on_progress=on_progress,
        )
    if as_json:
        print_json({"found": finding.found, **vars(finding)})
    elif not finding.found:
        print_text(f"nothing is wrong: {finding.detail} ({len(finding.checked)} checked)")
    else:
        print_text(f"first wrong {finding.stage}: {finding.name}".rstrip(": "))
        print_text(f"  {finding.detail}")
        if finding.worst is not None:
            w = finding.worst
            print_text(f"  {w.name}: norm error {w.norm_error:.2e} (allowed {w.tolerance:.0e}), at "
                       f"{list(w.where)} expected {w.expected:.6g}, found {w.found:.6g}"
                       + (f"; {w.reason}" if w.reason else ""))
        hint = "--disable-pass " + finding.name if finding.stage == "pass" else ""
        if hint:
            print_text(f"  until it is mended, build with {hint}")
    if finding.found:
        raise typer.Exit(1)
