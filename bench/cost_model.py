"""Does the learned cost model earn its keep? Collects samples, and judges models held out.

    python bench/cost_model.py collect MODEL... --records FILE [--schedules 20] [--seconds 200]
    python bench/cost_model.py table MODEL... --records FILE

`collect` times random schedules of the kernels that matter in each model, side by side, and adds
them to the records. It may be ended and run again: kernels that have their samples are left out.
With `--compile-only` it only fills the cache of compiled objects, so that a later run, on a quiet
machine, does nothing but measure.

`table` leaves each model out in turn, trains on the kernels of the others (equal kernels are left
out too), and asks how far the first, and the best of the first five schedules of the ranking are
behind the fastest of all that were timed; "beside 5" are the formula's choice, which tuning always
times, and the first four others. The formula's choice alone and the counts alone stand beside it.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bessemer.compiler.build import bind_symbols
from bessemer.compiler.constants import ConstantPool
from bessemer.compiler.kernels import CompiledKernel
from bessemer.compiler.variant import lower_variant
from bessemer.frontends import import_model
from bessemer.passes.pipelines import run_pipeline
from bessemer.runtime.pool import default_threads
from bessemer.targets import get_target
from bessemer.targets.target import Target
from bessemer.tune.cost_model import CostModel
from bessemer.tune.description import kernel_key
from bessemer.tune.features import NAMES, estimated_seconds, features_of
from bessemer.tune.records import Records
from bessemer.tune.session import Built, Session, can_measure
from bessemer.tune.space import Candidate, Space
from bessemer.tune.training import Sample, judge, samples_of, train

KERNELS_PER_MODEL = 24
LEAST_SHARE = 0.003
LEAST_SECONDS = 8e-6
MOST_CODE = 1100


def kernels_of(path: Path, target: Target, threads: int) -> dict[str, tuple[CompiledKernel, float]]:
    """The distinct kernels of a model that can be timed, with their estimated share of its time."""
    graph = bind_symbols(import_model(str(path)))
    run_pipeline(graph)
    seconds: dict[str, float] = {}
    found: dict[str, CompiledKernel] = {}
    for entry in lower_variant(graph, target, ConstantPool()).all_kernels:
        if can_measure(entry.kernel):
            key = kernel_key(entry.kernel, target, threads)
            features = features_of(entry.kernel, entry.scheduled, target, threads)
            once = float(estimated_seconds(features))
            if once >= LEAST_SECONDS:
                seconds[key] = seconds.get(key, 0.0) + once
                found.setdefault(key, entry)
    total = sum(seconds.values())
    ranked = sorted(found, key=lambda key: -seconds[key])[:KERNELS_PER_MODEL]
    return {key: (found[key], seconds[key] / total) for key in ranked
            if seconds[key] >= LEAST_SHARE * total}


def schedules_of(entry: CompiledKernel, target: Target, threads: int, count: int) -> list[Built]:
    """The formula's schedule, seeds and random ones, always the same for a kernel."""
    space = Space(entry.kernel, target)
    base = Candidate.of(entry.scheduled.rule, entry.scheduled.knobs)
    built, seen = [Built(base, entry.scheduled)], {base}
    rng = np.random.default_rng(1)
    for candidate in itertools.islice(
            itertools.chain(space.seeds(), space.randoms(rng)), 10 * count):
        if len(built) >= count:
            break
        if candidate in seen:
            continue
        seen.add(candidate)
        made = space.loops(candidate)
        if made is None:
            continue
        features = features_of(entry.kernel, made, target, threads)
        if 2 ** features[NAMES.index("code")] <= MOST_CODE:
            usable = space.loops(candidate, for_use=True)
            built += [Built(candidate, usable)] if usable is not None else []
    return built


def collect(models: list[Path], session: Session, count: int, seconds: float,
            compile_only: bool) -> None:
    """Adds timed schedules to the records until all kernels have them or the time is over."""
    end = time.perf_counter() + seconds
    for path in models:
        for key, (entry, _) in kernels_of(path, session.target, session.threads).items():
            if time.perf_counter() > end:
                print("time is over")
                return
            if len(session.records.trials(key)) >= 0.7 * count:
                continue
            built = schedules_of(entry, session.target, session.threads, count)
            if len(built) < 4:
                continue
            if compile_only:
                session.compile([each.scheduled for each in built])
                print(f"{path.stem:16} {entry.name[:40]:40} {len(built)} compiled", flush=True)
                continue
            trials = session.measure(entry.kernel, built, 6.0)
            best = min(trials, key=lambda trial: trial.ratio)
            print(f"{path.stem:16} {entry.name[:40]:40} {trials[0].seconds * 1e3:8.3f} ms, best of "
                  f"{len(trials):2} {best.ratio:.2f}: {best.candidate}", flush=True)


def table(models: list[Path], records: Records, target: Target, threads: int) -> None:
    """Prints one row per model left out, and the share of all kernels within 10 %."""
    samples = list(samples_of(records))
    keys = {path: set(kernels_of(path, target, threads)) for path in models}
    print(f"{'held out':16} {'kernels':>7} {'schedules':>9} {'formula':>8} {'model 1':>8} "
          f"{'model 5':>8} {'beside 5':>8} {'counts 5':>8}   (share within 10 % of the best)")
    rows = [row for path in models for row in rows_of(path, keys[path], samples)]
    print(f"{'all':16} {len(rows):7} {sum(row[0] for row in rows):9} " + " ".join(
        f"{np.mean([row[k] <= 1.1 for row in rows]):8.1%}" for k in range(1, 6)))
    print("mean loss         " + " " * 16 + " ".join(
        f"{np.mean([row[k] for row in rows]) - 1:8.1%}" for k in range(1, 6)))


def rows_of(path: Path, keys: set[str], samples: list[Sample]
            ) -> Iterator[tuple[int, float, float, float, float, float]]:
    """(schedules, formula, first, best of five, of the formula's and four, of five by counts).

    All by the best of the kernel.
    """
    held = [sample for sample in samples if sample.kernel.key in keys]
    if not held:
        return
    model = train([sample for sample in samples if sample.kernel.key not in keys])
    rows = []
    for sample in held:
        verdict, plain = judge(model, sample), judge(CostModel(None), sample)
        rows.append((verdict.schedules, verdict.formula, verdict.first, verdict.top5,
                     verdict.beside, plain.top5))
    print(f"{path.stem:16} {len(rows):7} {sum(row[0] for row in rows):9} " + " ".join(
        f"{np.mean([row[k] <= 1.1 for row in rows]):8.1%}" for k in range(1, 6)), flush=True)
    yield from rows


def main() -> int:
    """Runs one of the two commands."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("command", choices=("collect", "table"))
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--schedules", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--compile-only", action="store_true")
    arguments = parser.parse_args()
    target = get_target("host")
    with Records(arguments.records) as records:
        if arguments.command == "table":
            table(arguments.models, records, target, arguments.threads)
            return 0
        with Session(target, arguments.threads, records) as session:
            collect(arguments.models, session, arguments.schedules, arguments.seconds,
                    arguments.compile_only)
    return 0


if __name__ == "__main__":
    sys.exit(main())
