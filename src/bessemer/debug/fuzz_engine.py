"""Fuzzes the engine file: every mutated file must give an error of our tree or the right answer.

`python -m bessemer.debug.fuzz_engine --count 20000`. Cases are run in child processes with a limit
on memory, so that a crash, a hang or a runaway allocation is found and named. Every case follows
from the seed and its number; `--keep FOLDER` receives the files that failed.
"""

import argparse
import os
import random
import resource
import select
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from bessemer.core.errors import BessemerError
from bessemer.debug.engine_mutation import BLIND, REPAIRED
from bessemer.debug.symbolic_engine import (
    host_data,
    symbolic_answer,
    symbolic_engine_data,
    symbolic_inputs,
)
from bessemer.debug.tiny_engine import tiny_answer, tiny_engine_data
from bessemer.engine.file import write_engine
from bessemer.engine.plan import Binding, BufferRef, HostStep, Plan, StoredGraph, TensorRef
from bessemer.runtime.load import load

COUNT = 64
MEMORY_BYTES = 1 << 30
CASE_SECONDS = 30.0
Arrays = dict[str, np.ndarray[Any, Any]]
Seed = tuple[bytes, Arrays, Arrays]
"""An engine file, inputs for it, and the outputs that follow."""

HARMLESS = "formulas"
"""The seed without machine code, which may run however it was changed."""


def seed_engines() -> dict[str, Seed]:
    """Good engine files by name."""
    data, constant = tiny_engine_data(COUNT)
    size = 4 * COUNT
    ref = TensorRef(BufferRef("arena", 0, size), "f32", (COUNT,))
    host = HostStep("copy", {"op": "Identity", "attributes": {}}, (ref,), (ref,), ("Identity_9",))
    first, *rest = data.plan.steps
    large = np.arange(60_000, dtype=np.uint16)
    several = {"base": data.objects["base"], "other": data.objects["base"]}
    engines = {
        "plain": data,
        "host": replace(data, plan=replace(data.plan, steps=(first, host, *rest))),
        "bodies": replace(data, plan=replace(data.plan, steps=(
            first, _branch_step(ref, constant), *rest))),
        "large": replace(data, objects=several, constants=(*data.constants, (4096, large))),
        "symbolic": replace(symbolic_engine_data(), source=StoredGraph("graph g() -> () {\n}")),
        HARMLESS: host_data(),
    }
    x = {"x": np.linspace(0, 1, COUNT, dtype=np.float32)}
    known = (x, {"y": tiny_answer(x["x"], constant)})
    shaped = symbolic_inputs(4, 3)
    made: dict[str, Seed] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, engine in engines.items():
            path = Path(folder) / "m.plan"
            write_engine(path, engine)
            inputs, outputs = known if name in ("plain", "host", "bodies", "large") else (
                shaped, symbolic_answer(shaped))
            made[name] = (path.read_bytes(), inputs, outputs)
    return made


def _branch_step(ref: TensorRef, constant: np.ndarray[Any, Any]) -> HostStep:
    """An If that copies a value onto itself; a byte of the constant, not zero, is its condition."""
    byte = next(k for k, number in enumerate(constant.tobytes()) if number)
    condition = TensorRef(BufferRef("constant", byte, 1), "bool", (1,))
    size, shape = ref.buffer.size_bytes, (COUNT,)
    given = TensorRef(BufferRef("input", 0, size), "f32", shape)
    made = TensorRef(BufferRef("output", 0, size), "f32", shape)
    copy = HostStep("copy", {"op": "Identity", "attributes": {}}, (given,), (made,))
    body = Plan("then", (Binding("a", "f32", shape),), (Binding("b", "f32", shape),), (copy,))
    return HostStep("branch", {"op": "If", "attributes": {}}, (condition, ref), (ref,),
                    bodies={"then_branch": body})


# --- one case ------------------------------------------------------------------------------------

def mutate(seed: int, number: int, engines: dict[str, Seed]) -> tuple[str, bytes, Seed, str]:
    """Case `number`: its name, the file, the seed that it comes from, and what to do with it.

    A file with repaired checksums may well be another consistent engine, whose machine code nobody
    can trust: such a file is only loaded and looked into (`load`). Without machine code it may run,
    but any answer is right (`run`). Where checksums were left alone answers are known (`compare`).
    """
    source = random.Random(seed * 1_000_003 + number)
    name = source.choice(sorted(engines))
    mutation = source.choice(BLIND + REPAIRED)
    changed = mutation(bytearray(engines[name][0]), source)
    turn = "compare" if mutation in BLIND else "run" if name == HARMLESS else "load"
    return f"{name}/{mutation.__name__}", changed, engines[name], turn


def try_case(path: Path, seed: Seed, turn: str) -> str:
    """Loads the file and says what came of it: the error's name, `right`, `ran` or `loaded`.

    Raises: AssertionError for a wrong answer, and whatever a bug raises.
    """
    _, inputs, expected = seed
    try:
        engine = load(path)
        engine.inspect()
        if turn == "load":
            return "loaded"
        got = engine.run(inputs)
    except BessemerError as error:
        return type(error).__name__
    if turn == "run":
        return "ran"
    assert all(np.array_equal(got[k], array) for k, array in expected.items()), "a wrong answer"
    return "right"


def worker(seed: int, first: int, last: int, folder: Path) -> None:
    """Runs cases in this process and reports each on standard output."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    engines = seed_engines_from(folder)
    path = folder / f"case{os.getpid()}.plan"
    for number in range(first, last):
        name, content, origin, turn = mutate(seed, number, engines)
        path.write_bytes(content)
        try:
            outcome = try_case(path, origin, turn)
        except Exception:  # noqa: BLE001  any other exception is what we look for
            outcome = "BUG " + traceback.format_exc(limit=-4).replace("\n", " | ")
        sys.stdout.write(f"{number}\t{name}\t{outcome}\n")
        sys.stdout.flush()
    path.unlink(missing_ok=True)


def seed_engines_from(folder: Path) -> dict[str, Seed]:
    """The seed engines that the parent wrote, so that children need no compiler."""
    found = {}
    for path in sorted(folder.glob("*.seed")):
        with np.load(path.with_suffix(".npz")) as held:
            arrays = [{k[1:]: held[k] for k in held if k[0] == kind} for kind in "io"]
        found[path.stem] = (path.read_bytes(), arrays[0], arrays[1])
    return found


# --- the parent ----------------------------------------------------------------------------------

@dataclass
class FuzzReport:
    """What came of all cases: outcomes counted, and the failures in words."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


def fuzz(
    count: int, seed: int = 0, keep: Path | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> FuzzReport:
    """Runs `count` cases in child processes; a crash or hang costs one child, not the run."""
    report = FuzzReport()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        engines = seed_engines()
        for stem, (content, inputs, outputs) in engines.items():
            (folder / f"{stem}.seed").write_bytes(content)
            arrays = {f"i{k}": v for k, v in inputs.items()}
            arrays |= {f"o{k}": v for k, v in outputs.items()}
            np.savez(folder / f"{stem}.npz", **arrays)  # type: ignore[arg-type]
        first = 0
        while first < count:
            reached, trouble = _run_child(seed, first, count, folder, report, progress)
            if trouble and reached < count:
                report.failures.append(f"case {reached}: {trouble}")
            first = reached + 1
        if keep is not None and report.failures:
            keep.mkdir(parents=True, exist_ok=True)
            for text in report.failures:
                number = int(text.split()[1].rstrip(":"))
                (keep / f"case{number}.plan").write_bytes(mutate(seed, number, engines)[1])
    return report


def _run_child(
    seed: int, first: int, last: int, folder: Path, report: FuzzReport,
    progress: Callable[[int], None],
) -> tuple[int, str]:
    """Runs cases until the child ends; returns the case it did not finish and why."""
    command = [sys.executable, "-m", "bessemer.debug.fuzz_engine", "--worker", str(first),
               "--count", str(last), "--seed", str(seed), "--folder", str(folder)]
    # Thread pools of numpy's libraries reserve address space, which is what the limit counts.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    reached, trouble = first, ""
    for line in _lines(child):
        if line is None:
            child.kill()
            trouble = f"no answer within {CASE_SECONDS:.0f} s"
            break
        number, name, outcome = line.split("\t", 2)
        reached = int(number) + 1
        report.outcomes[outcome if not outcome.startswith("BUG") else "bug"] += 1
        if outcome.startswith("BUG"):
            report.failures.append(f"case {number}: {name}: {outcome}")
        progress(reached)
    assert child.stdout is not None
    child.stdout.close()
    code = child.wait()
    return reached, trouble or (f"the process ended with {code}" if code else "")


def _lines(child: "subprocess.Popen[bytes]") -> Iterator[str | None]:
    """Lines that the child writes; None if it is silent for too long."""
    assert child.stdout is not None
    handle, pending = child.stdout.fileno(), b""
    while True:
        ready, _, _ = select.select([handle], [], [], CASE_SECONDS)
        if not ready:
            yield None
            continue
        part = os.read(handle, 1 << 16)
        if not part:
            return
        *whole, pending = (pending + part).split(b"\n")
        for line in whole:
            yield line.decode()


def main(arguments: list[str] | None = None) -> int:
    """The command; exit code 1 if any case failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the files of failed cases")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker is not None:
        worker(options.seed, options.worker, options.count, options.folder)
        return 0
    show = sys.stderr.isatty()

    def progress(done: int) -> None:
        if show and done % 100 == 0:
            sys.stderr.write(f"\r{done} of {options.count}")

    report = fuzz(options.count, options.seed, options.keep, progress)
    sys.stdout.write("\n".join([
        f"{sum(report.outcomes.values())} cases, {len(report.failures)} failures",
        *(f"  {number:8} {outcome}" for outcome, number in report.outcomes.most_common()),
        *report.failures,
    ]) + "\n")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
