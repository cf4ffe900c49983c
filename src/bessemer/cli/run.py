"""`bessemer run`: one inference, from files to files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bessemer.cli.console import print_json, print_table, print_text
from bessemer.cli.options import EngineOrModel, Inputs, Json, Seed, Shapes, Threads
from bessemer.cli.registry import command
from bessemer.core.errors import InputError

if TYPE_CHECKING:
    from bessemer.runtime.engine import Engine


@command("run", example="bessemer run model.plan --input x=image.npy --output result.npz")
def run(
    engine: EngineOrModel,
    inputs: Inputs = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write outputs here: FILE.npz, or a folder of .npy."),
    ] = None,
    random: Annotated[
        bool, typer.Option("--random", help="Random data for inputs that are not given.")
    ] = False,
    seed: Seed = 0,
    shapes: Shapes = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Run a model or engine once and print or save its outputs."""
    from bessemer.bench.inputs import complete_inputs, parse_sizes, read_arrays, specs_of_bindings
    from bessemer.cli.loading import open_engine

    sizes = parse_sizes(shapes or [])
    loaded = open_engine(engine, shapes=sizes or None, threads=threads)
    specs = specs_of_bindings(loaded.plan.inputs) if random or inputs else []
    arrays = read_arrays(inputs or [], specs)
    missing = [b.name for b in loaded.plan.inputs if b.name not in arrays]
    if missing and not random:
        raise InputError(
            f"no data for input {missing[0]!r}; give --input {missing[0]}=FILE.npy or --random"
        )
    if random:
        arrays = complete_inputs(arrays, specs, seed=seed, sizes=sizes)
    outputs = _run(loaded, arrays)
    if output is not None:
        save_outputs(outputs, output)
    if as_json:
        print_json(outputs)
        return
    rows = [_row(name, data) for name, data in outputs.items()]
    print_table("", ("output", "type", "min", "max", "mean", "first elements"), rows)
    if output is not None:
        print_text(f"written to {output}")


def _run(engine: "Engine", arrays: dict[str, Any]) -> dict[str, Any]:
    return dict(engine.run(arrays))


def save_outputs(outputs: dict[str, Any], path: Path) -> None:
    """Writes arrays to one .npz, or to one .npy each in a folder.

    Raises: InputError if the place cannot be written.
    """
    import numpy as np

    arrays = {name: np.asarray(data) for name, data in outputs.items()}
    try:
        if path.suffix == ".npz":
            np.savez(path, **arrays)  # type: ignore[arg-type]
            return
        path.mkdir(parents=True, exist_ok=True)
        for name, array in arrays.items():
            np.save(path / f"{name.replace('/', '_')}.npy", array)
    except OSError as error:
        raise InputError(f"--output {path}: cannot be written: {error.strerror}") from error


def _row(name: str, data: Any) -> tuple[str, ...]:
    import numpy as np

    array = np.asarray(data)
    kind = f"{array.dtype}[{','.join(map(str, array.shape))}]"
    if array.size == 0 or array.dtype.kind in "OUSb":
        return name, kind, "-", "-", "-", " ".join(str(item) for item in array.ravel()[:4])
    numbers = array.astype(np.float64)
    first = " ".join(f"{item:.4g}" for item in numbers.ravel()[:4])
    return (name, kind, f"{numbers.min():.4g}", f"{numbers.max():.4g}", f"{numbers.mean():.4g}",
            first)
