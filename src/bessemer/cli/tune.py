"""`bessemer tune`: searches fast schedules for a model; keeps, shares and learns from records."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bessemer.cli.console import print_json, print_note, print_table, progress_bar, time_text
from bessemer.cli.options import Json, Shapes, Threads
from bessemer.cli.registry import command
from bessemer.core.errors import SettingsError

if TYPE_CHECKING:
    from bessemer.tune.records import Records
    from bessemer.tune.tuner import Tuned

_ROWS = 30


@command("tune", example="bessemer tune model.onnx --budget 300 -o model.plan")
def tune(
    model: Annotated[
        Path | None, typer.Argument(metavar="[MODEL]", help="A model file (.onnx).")
    ] = None,
    budget: Annotated[
        float, typer.Option(min=1, help="Seconds that the search may take, building included.")
    ] = 600.0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Save the engine there as well.")
    ] = None,
    target: Annotated[
        str, typer.Option(help="A target whose code this machine can run.")
    ] = "host",
    shapes: Shapes = None,
    threads: Threads = None,
    records: Annotated[
        Path | None,
        typer.Option(help="The file of records; default: the setting BESSEMER_RECORDS, else the "
                     "user's."),
    ] = None,
    merge: Annotated[
        list[Path] | None, typer.Option(help="Add exported records first; repeatable.")
    ] = None,
    train: Annotated[
        bool, typer.Option("--train", help="Train the cost model on all records at the end.")
    ] = False,
    export: Annotated[
        Path | None, typer.Option(help="Write all records there as JSON lines at the end.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Search fast schedules for the kernels of a model and keep them as records.

    Later builds of any model with equal kernels use the records. Without a model, only records are
    merged, learnt from and exported.
    """
    from bessemer.tune.records import Records

    if model is None and not (merge or train or export):
        raise SettingsError("name a model to tune, or give --merge, --train or --export")
    result: dict[str, Any] = {}
    with Records(records) if records else Records.from_settings() as kept:
        if merge:
            result["merged"] = sum(_merge(kept, path) for path in merge)
            print_note(f"{result['merged']} records merged")
        if model is not None:
            result |= _search(model, kept, budget, output, target, shapes, threads)
        if train:
            result["trained_on"] = _train(kept)
            print_note(f"the cost model was trained on {result['trained_on']} kernels")
        if export:
            lines = list(kept.export())
            export.write_text("".join(f"{line}\n" for line in lines))
            print_note(f"{len(lines)} kernels written to {export}")
    if as_json:
        print_json(result)
    elif "kernels" in result:
        _print(result["kernels"], result["seconds"])


def _merge(records: "Records", path: Path) -> int:
    try:
        return records.merge(path.read_text().splitlines(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read {path}: {error}") from None


def _search(model: Path, records: "Records", budget: float, output: Path | None, target: str,
            shapes: list[str] | None, threads: int | None) -> dict[str, Any]:
    from bessemer.bench.inputs import parse_sizes
    from bessemer.compiler.build import BuildOptions, compile_graph
    from bessemer.compiler.tuning import Tuning
    from bessemer.frontends import import_model
    from bessemer.targets import check_runs_here, get_target

    chip = get_target(target)
    check_runs_here(chip)
    tuning = Tuning("max", budget, records=records)
    graph = import_model(model, shapes=parse_sizes(shapes or []) or None)
    options = BuildOptions((chip,), tuning=tuning, threads=threads, strict=False)
    with progress_bar("tune") as on_progress:
        engine = compile_graph(graph, options, on_progress=on_progress).engine
    if output is not None:
        engine.save(output)
    seconds = time.perf_counter() - tuning.started
    return {"kernels": tuning.found, "seconds": round(seconds, 3)}


def _train(records: "Records") -> int:
    from bessemer.tune.cost_model import own_path
    from bessemer.tune.training import samples_of, train

    with progress_bar("train") as on_progress:
        tell = on_progress or (lambda stage, done, total, detail: None)
        samples = list(samples_of(records, lambda d, n, text: tell("read", d, n, text)))
        if not samples:
            raise SettingsError("there are no records to learn from; tune a model first")
        tell("train", len(samples), len(samples), "")
        own_path().parent.mkdir(parents=True, exist_ok=True)
        train(samples).save(own_path())
    return len(samples)


def _print(found: "list[Tuned]", seconds: float) -> None:
    timed = [each for each in found if each.seconds is not None]
    rows = [(each.kernel[:48], each.count, time_text((each.seconds or 0.0) * 1e9),
             f"{each.ratio:.0%}", each.tried, each.schedule) for each in timed[:_ROWS]]
    print_table("", ("kernel", "times", "best", "of formula", "tried", "schedule"), rows)
    before = sum(e.count * (e.seconds or 0.0) / e.ratio for e in timed)
    after = sum(e.count * (e.seconds or 0.0) for e in timed)
    if before:
        print_table("", ("", ""), [
            ("kernels timed", f"{len(timed)} of {len(found)}"),
            ("their time by formula", time_text(before * 1e9)),
            ("their time now", f"{time_text(after * 1e9)} ({after / before:.1%})"),
            ("seconds", f"{seconds:.1f}")])
