"""`bessemer bench`: throughput, latency, accuracy, memory and energy, alone or beside a rival."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bessemer.cli.console import print_json, print_table, print_text, progress_bar
from bessemer.cli.options import EngineOrModel, Inputs, Json, Seed, Shapes, Threads
from bessemer.cli.registry import command
from bessemer.core.errors import SettingsError

if TYPE_CHECKING:
    from bessemer.bench.inputs import InputSpec
    from bessemer.bench.metrics import Subject
    from bessemer.runtime.engine import Engine


@command("bench", example="bessemer bench model.onnx --against onnxruntime --duration 5")
def bench(
    engine: EngineOrModel,
    against: Annotated[
        list[str] | None,
        typer.Option(help="onnxruntime (needs the model file), or another engine; repeatable."),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="The model for --against where an engine is measured.")
    ] = None,
    duration: Annotated[
        float, typer.Option(min=0.01, help="Seconds of timing for each runtime.")
    ] = 3.0,
    slices: Annotated[int, typer.Option(min=1, help="Interleaved slices.")] = 10,
    data: Annotated[
        Path | None, typer.Option(help="Examples for accuracy: .npz named by inputs, and labels.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Labels (.npy) if they are not in --data.")
    ] = None,
    inputs: Inputs = None,
    seed: Seed = 0,
    shapes: Shapes = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Measure the five metrics of a model or engine: throughput, latency, accuracy, memory, energy.

    Runtimes are timed in interleaved slices of one run and compared by paired ratios, because a
    machine's speed moves. Accuracy needs --data; energy needs readable RAPL counters.
    """
    from bessemer.bench.accuracy import read_labelled_data
    from bessemer.bench.inputs import complete_inputs, parse_sizes, read_arrays, specs_of_bindings
    from bessemer.bench.metrics import BenchOptions
    from bessemer.bench.metrics import bench as measure_all
    from bessemer.cli.loading import open_engine

    sizes = parse_sizes(shapes or [])
    loaded = open_engine(engine, shapes=sizes or None, threads=threads)
    specs = specs_of_bindings(loaded.plan.inputs)
    feed = complete_inputs(read_arrays(inputs or [], specs), specs, seed=seed, sizes=sizes)
    batch = _batch(specs, feed)
    names = [spec.name for spec in specs]
    labelled = read_labelled_data(str(data), str(labels) if labels else None, names) if data \
        else None
    subjects = [our_subject("bessemer", engine, loaded, threads)]
    subjects += [_rival(name, model or engine, threads) for name in against or []]
    settings = {
        "threads": threads or "default", "duration_s": duration, "slices": slices, "batch": batch,
        "seed": seed, "shapes": {name: list(array.shape) for name, array in feed.items()},
    }
    with progress_bar("measure") as on_progress:
        report = measure_all(
            str(engine), subjects, feed,
            BenchOptions(duration_s=duration, slices=slices, batch=batch), data=labelled,
            settings=settings, on_progress=on_progress,
        )
    if as_json:
        print_json(report.as_dict())
        return
    versions = [f"{s.name} {s.version}" for s in report.subjects]
    print_table("", ("metric", *versions), report.rows())
    for line in report.verdict():
        print_text(line)
    print_text(f"on {report.machine.cpu}, {report.machine.usable_cores} usable cores; "
               f"threads {settings['threads']}, batch {batch}")


def _batch(specs: "list[InputSpec]", feed: dict[str, Any]) -> int:
    first = feed[specs[0].name] if specs else None
    return int(first.shape[0]) if first is not None and first.ndim else 1


def our_subject(name: str, path: Path, engine: "Engine", threads: int | None) -> "Subject":
    """The engine as something to measure, with what it predicts of its memory.

    An engine file is opened anew when measured, so that its memory is seen; an engine just built
    shares the memory of the build, of which it has no part of its own to show.
    """
    from bessemer import __version__
    from bessemer.bench.metrics import Subject
    from bessemer.cli.loading import is_engine_file
    from bessemer.runtime.load import load

    plan, from_file = engine.plan, is_engine_file(path)
    return Subject(
        name, __version__,
        (lambda: load(path).create_context(threads)) if from_file
        else (lambda: engine.create_context(threads)),
        plan.memory.arena_bytes or plan.arena_bytes, plan.memory.weights_bytes,
        lambda context, feed: int(context.measured_peak_bytes(feed)), shows_growth=from_file,
    )


def _rival(name: str, model: Path, threads: int | None) -> "Subject":
    from bessemer.bench.metrics import Subject
    from bessemer.bench.rivals import load_rival, rival_version
    from bessemer.cli.loading import is_engine_file
    from bessemer.runtime.load import load

    if is_engine_file(Path(name)):
        return our_subject(name, Path(name), load(name), threads)
    version = rival_version(name)
    if is_engine_file(model):
        raise SettingsError(f"--against {name} needs the model file too: --model MODEL")
    return Subject(name, version, lambda: load_rival(name, model, threads=threads))
