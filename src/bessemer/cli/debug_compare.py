"""`bessemer debug compare`: every value of a model against the reference interpreter."""

from bessemer.cli.compare import Against, Tolerance, Worst, run_comparison
from bessemer.cli.options import Disable, Inputs, Json, Model, Seed, Shapes, Threads
from bessemer.cli.registry import command


@command("compare", group="debug", example="bessemer debug compare model.onnx --worst 20")
def debug_compare(
    model: Model,
    against: Against = "reference",
    inputs: Inputs = None,
    seed: Seed = 0,
    shapes: Shapes = None,
    tolerance: Tolerance = None,
    threads: Threads = None,
    disable: Disable = None,
    worst: Worst = 10,
    as_json: Json = False,
) -> None:
    """Compare every intermediate value of a compiled model, and print the worst ones.

    The engine is built with all values as outputs, so nothing is fused across them; 'bessemer debug
    bisect' names the pass or kernel at fault.
    """
    run_comparison(
        model, against, True, inputs, seed, shapes, tolerance, threads, disable, worst, as_json
    )
