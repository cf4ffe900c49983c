"""Feeds mutated ONNX files to Bessemer: each must give one of our errors or a right answer.

    python -m bessemer.debug.fuzz_onnx --count 20000 --seed 0

Cases run in a worker process with a memory limit; a crash or hang ends only the worker, is recorded
and its file kept. Case i of a seed is always the same file.
"""

import argparse
import json
import logging
import os
import queue
import resource
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from bessemer.core.errors import BessemerError
from bessemer.debug.onnx_mutation import mutate
from bessemer.debug.onnx_seeds import seed_models
from bessemer.frontends import import_model
from bessemer.ir.graph import Graph
from bessemer.ir.interpreter import REFERENCE_ERRORS, run_graph, run_graph_values
from bessemer.ir.types import TensorType
from bessemer.ir.verifier import verify

log = logging.getLogger("bessemer.debug")

MEMORY = 1 << 30
"""Bytes a case may take on top of what the worker has after its imports."""
GOOD = ("error", "imported", "right", "undefined")
_RUN_ELEMENTS = 1 << 16
_MOST_TRIPS = 1000
_TOLERANCE = 1e-3


def case_bytes(seed: int, index: int, seeds: dict[str, bytes]) -> bytes:
    """The file of one case."""
    random = Random(f"{seed}/{index}")
    return mutate(seeds[random.choice(sorted(seeds))], random)


def try_case(data: bytes, stage: str) -> tuple[str, str]:
    """What comes of one file: a status and a message.

    Status error: an error of our tree. imported: read without being run. right: built, run and
    equal to the reference. undefined: the reference itself fails on the data. wrong: not equal.
    leak: an exception that is not of our tree.
    """
    try:
        graph = import_model(data)
        if stage == "import":
            verify(graph)
            return "imported", ""
        return _run_case(data, graph)
    except BessemerError as error:
        return "error", f"{type(error).__name__}: {error}"[:300]
    except (RuntimeError, AssertionError, *REFERENCE_ERRORS) as error:
        # Anything but our own errors is a finding, so it is named, not raised.
        return "leak", f"{type(error).__name__}: {error}"[:300]


def _run_case(data: bytes, graph: Graph) -> tuple[str, str]:
    # Imported here so that the import stage needs no LLVM.
    from bessemer.compiler.build import build

    shapes = {
        name: 2 for value in graph.inputs if isinstance(value.type, TensorType)
        for dim in value.type.shape or () if not isinstance(dim, int) for name in dim.symbols()
    }
    if shapes:
        graph = import_model(data, shapes=shapes)
    if not _is_small(graph) or _may_run_long(graph):
        build(graph, strict=False)
        return "imported", "too large to run"
    engine = build(data, shapes=shapes, strict=False)
    inputs = _inputs(graph)
    try:
        expected = run_graph(graph, list(inputs.values()))
    except REFERENCE_ERRORS:
        expected = None
    try:
        found = engine.run(inputs)
    except BessemerError:
        if expected is None:
            return "undefined", ""
        raise
    if expected is None:
        return "undefined", ""
    for value, want in zip(graph.outputs, expected, strict=True):
        message = _difference(found[value.name], want)
        if message and _is_stable(graph, inputs):
            return "wrong", f"{value.name}: {message}"
        if message:
            return "undefined", "rounding errors of large values decide the answer"
    return "right", ""


def _is_stable(graph: Graph, inputs: dict[str, Any]) -> bool:
    """True if no value is so large that its rounding error alone exceeds the tolerance.

    Damaged weights such as 1e13 cancel each other, and any other order of operations gives
    another answer.
    """
    limit = _TOLERANCE / np.finfo(np.float32).eps
    values = [value.constant for value in graph.constants()]
    values += run_graph_values(graph, inputs).values()
    for data in values:
        if isinstance(data, np.ndarray) and data.dtype.kind == "f":
            finite = np.abs(data[np.isfinite(data)])
            if finite.size and finite.max() > limit:
                return False
    return True


def _is_small(graph: Graph) -> bool:
    return all(
        isinstance(value.type, TensorType) and value.type.is_static
        and int(np.prod([float(d) for d in value.type.static_shape])) <= _RUN_ELEMENTS
        for value in (*graph.inputs, *(v for node in graph.nodes for v in node.outputs))
    )


def _may_run_long(graph: Graph) -> bool:
    """True if a Loop asks for many iterations, or for a number that is not known."""
    for node in graph.nodes:
        if node.op.op_name == "Loop":
            trips = node.inputs[0].constant if node.inputs[0] is not None else None
            if trips is None or trips.size != 1 or int(trips.reshape(-1)[0]) > _MOST_TRIPS:
                return True
        if any(_may_run_long(body) for body in node.op.subgraphs().values()):
            return True
    return False


def _inputs(graph: Graph) -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {
        value.name: random.uniform(-2, 2, known.static_shape).astype(known.dtype.numpy)
        for value, known in ((value, value.tensor) for value in graph.inputs)
    }


# Outputs are arrays or lists of them.
def _difference(found: Any, want: Any) -> str:
    if isinstance(want, list) or want is None:
        return ""
    found, want = np.asarray(found), np.asarray(want)
    if found.shape != want.shape or found.dtype != want.dtype:
        return f"{found.dtype}{found.shape} instead of {want.dtype}{want.shape}"
    if want.dtype == object or want.dtype.kind == "c":
        return ""
    a, b = found.astype(np.float64), want.astype(np.float64)
    # Integers made from floats outside their range differ by machine; such models have no answer.
    if np.allclose(a, b, _TOLERANCE, _TOLERANCE, equal_nan=True):
        return ""
    return f"differs by {np.nanmax(np.abs(a - b)):.3g}"


# -- worker and parent ------------------------------------------------------------------------


def work(seed: int, start: int, stop: int, stage: str) -> None:
    """Runs cases and writes a line before and after each to stdout."""
    logging.disable(logging.CRITICAL)
    seeds = seed_models()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for index in range(start, stop):
        sys.stdout.write(json.dumps({"start": index}) + "\n")
        sys.stdout.flush()
        status, message = try_case(case_bytes(seed, index, seeds), stage)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
        if grown > MEMORY and status in GOOD:
            status, message = "memory", f"{grown >> 20} MiB"
        line = {"index": index, "status": status, "message": message}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


@dataclass
class FuzzReport:
    """Counts of every status, and the findings: (case, status, message)."""

    counts: Counter[str] = field(default_factory=Counter)
    findings: list[tuple[int, str, str]] = field(default_factory=list)

    def add(self, index: int, status: str, message: str) -> None:
        """Counts one case."""
        self.counts[status] += 1
        if status not in GOOD:
            self.findings.append((index, status, message))


def fuzz(
    count: int, seed: int = 0, start: int = 0, stage: str = "build", limit_s: float = 60.0
) -> FuzzReport:
    """Runs `count` cases of a seed from case `start` on; a case may take `limit_s` seconds."""
    report = FuzzReport()
    following, stop = start, start + count
    while following < stop:
        for index, status, message in _worker_results(seed, following, stop, stage, limit_s):
            report.add(index, status, message)
            if status not in GOOD:
                log.info("case %d: %s: %s", index, status, message)
            following = index + 1
            if report.counts.total() % 1000 == 0:
                log.info("%d cases: %s", report.counts.total(), dict(report.counts))
    return report


def _worker_results(
    seed: int, start: int, stop: int, stage: str, limit_s: float
) -> Iterator[tuple[int, str, str]]:
    """Results of one worker until it is done, or until a case ends it (the last result)."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bessemer.debug.fuzz_onnx", "--work", "--seed", str(seed),
         "--start", str(start), "--count", str(stop - start), "--stage", stage],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )
    lines: queue.Queue[str] = queue.Queue()
    assert process.stdout is not None
    reader = threading.Thread(target=_forward, args=(process.stdout, lines), daemon=True)
    reader.start()
    current, waiting = start, 120.0
    try:
        while current < stop:
            try:
                line = lines.get(timeout=waiting)
            except queue.Empty:
                yield current, "hang", f"more than {waiting:g} s"
                return
            if not line:
                yield current, "crash", f"exit code {process.wait()}"
                return
            entry = json.loads(line)
            if "start" in entry:
                current, waiting = entry["start"], limit_s
                continue
            yield entry["index"], entry["status"], entry["message"]
            current = entry["index"] + 1
    finally:
        process.kill()
        process.wait()
        reader.join()
        process.stdout.close()


def _forward(stream: Any, lines: "queue.Queue[str]") -> None:
    for line in stream:
        lines.put(line)
    lines.put("")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="first case")
    parser.add_argument("--stage", choices=("import", "build"), default="build")
    parser.add_argument("--keep", type=Path, help="folder for the files of findings")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.seed, options.start, options.start + options.count, options.stage)
        return
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    began = time.monotonic()
    report = fuzz(options.count, options.seed, options.start, options.stage)
    seeds = seed_models()
    for index, status, _ in report.findings:
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
            path = options.keep / f"{options.seed}-{index}-{status}.onnx"
            path.write_bytes(case_bytes(options.seed, index, seeds))
    log.info("%d cases in %.0f s: %s", options.count, time.monotonic() - began, dict(report.counts))
    sys.exit(1 if report.findings else 0)


if __name__ == "__main__":
    main()
