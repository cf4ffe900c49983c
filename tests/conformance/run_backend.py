"""Runs ONNX's own backend tests in worker processes that may crash or hang, and counts the results.

    python tests/conformance/run_backend.py --suite node --engine reference --out report.json

The engine `reference` imports a model and runs it by the operators' numpy references; `compiled`
takes the users' path, `bessemer.onnx_backend`. Each test has a time limit; a worker that crashes
or hangs is replaced and the test is recorded. With `compiled`, the operators that ran on the host
instead of as machine code are recorded for each test, and counted at the end. The status `checked`
means that ONNX's comparison cannot tell, and a check of our own (own_checks.py) holds.
"""

import argparse
import json
import os
import queue
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import unittest
import warnings
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from own_checks import own_check

SUITES = {
    "node": "NodeModel", "simple": "SimpleModel", "real": "RealModel",
    "pytorch-operator": "PyTorchOperatorModel", "pytorch-converted": "PyTorchConvertedModel",
}
MEMORY_LIMIT = 6 << 30


# -- worker -----------------------------------------------------------------------------------


def backend_of(engine: str) -> Any:
    """The backend class of an engine name."""
    if engine == "compiled":
        return recording_backend()
    from onnx.backend.base import Backend, BackendRep

    from bessemer.frontends import import_model
    from bessemer.ir.interpreter import run_graph

    class ReferenceRep(BackendRep):
        def __init__(self, model: Any) -> None:
            self.graph = import_model(model)

        def run(self, inputs: Any, **_: Any) -> Any:
            return run_graph(self.graph, list(inputs))

    class ReferenceBackend(Backend):
        @classmethod
        def supports_device(cls, device: str) -> bool:
            return device == "CPU"

        @classmethod
        def prepare(cls, model: Any, device: str = "CPU", **_: Any) -> ReferenceRep:
            return ReferenceRep(model)

    return ReferenceBackend


REPS: list[Any] = []
"""What the current test has prepared; `host_steps` looks into it."""


def recording_backend() -> Any:
    """Bessemer's backend, with everything it prepares kept in `REPS`."""
    from bessemer.onnx_backend import BessemerBackend

    class RecordingBackend(BessemerBackend):
        @classmethod
        def prepare(cls, model: Any, device: str = "CPU", **options: Any) -> Any:
            rep = super().prepare(model, device, **options)
            REPS.append(rep)
            return rep

    return RecordingBackend


def host_steps() -> list[str]:
    """Operator and reason of each step that the engines of the current test ran on the host."""
    engines = [engine for rep in REPS for engine in rep.engines]
    return sorted({
        f"{step.operator['op']}: {step.reason}"
        for engine in engines for step in engine.plan.opaque_steps
    })


def suite_tests(engine: str, suite: str) -> dict[str, tuple[Any, Any]]:
    """The test functions and cases of one suite by name, without the device in it."""
    warnings.simplefilter("ignore")
    from onnx.backend.test.loader import load_model_tests
    from onnx.backend.test.runner import Runner

    class OneSuite(Runner):
        """The runner of onnx, which loads all suites, with only one."""

        def __init__(self) -> None:
            self.backend = backend_of(engine)
            self._test_kwargs: dict[str, Any] = {}
            self._test_items: dict[str, dict[str, Any]] = defaultdict(dict)
            for test in cases.values():
                self._add_model_test(test, SUITES[suite].removesuffix("Model"))

    cases = {case.name: case for case in load_model_tests(kind=suite)}
    items = OneSuite()._test_items[SUITES[suite]]
    names = [name.removesuffix("_cpu") for name in sorted(items) if name.endswith("_cpu")]
    return {name: (items[f"{name}_cpu"].func, cases[name]) for name in names}


def run_test(engine: str, function: Any, case: Any) -> tuple[str, str]:
    """Status and message of one test, by an own check where ONNX's comparison cannot tell."""
    status, message = run_one(function)
    if status in ("fail", "error"):
        own, found = run_one(lambda _: own_check(case, backend_of(engine).prepare))
        if own == "pass" and found:
            return "checked", found
    return status, message


def run_one(function: Any) -> tuple[str, str]:
    """Status of one test, and the error's message or what the function returned."""
    try:
        result = function(None)
    except unittest.SkipTest as skip:
        return "skip", str(skip)
    except AssertionError as failure:
        return "fail", " ".join(str(failure).split())[:400]
    except Exception as error:  # noqa: BLE001 - a test runner records whatever happens
        text = " ".join(f"{type(error).__name__}: {error}".split())[:400]
        where = traceback.extract_tb(error.__traceback__)[-1]
        return "error", f"{text} [{Path(where.filename).name}:{where.lineno}]"
    return "pass", result or ""


def work(engine: str, suite: str) -> None:
    """Reads test names from stdin, one a line, and answers each with a JSON line."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    tests = suite_tests(engine, suite)
    answers.write(json.dumps({"tests": list(tests)}) + "\n")
    answers.flush()
    for line in sys.stdin:
        name = line.strip()
        REPS.clear()
        status, message = run_test(engine, *tests[name])
        answers.write(json.dumps({"name": name, "status": status, "message": message,
                                  "host": host_steps()}) + "\n")
        answers.flush()


# -- parent -----------------------------------------------------------------------------------


class Worker:
    """A process that runs tests one at a time."""

    def __init__(self, engine: str, suite: str, folder: str) -> None:
        environment = dict(os.environ, ONNX_HOME=folder, PYTHONWARNINGS="ignore")
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the worker
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--work", "--engine", engine, "--suite", suite],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
            text=True, env=environment,
        )
        self.answers: queue.Queue[str] = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        first = self.answer(300)
        if "tests" not in first:
            self.stop()
            raise RuntimeError(f"the worker did not start: {first}")
        self.tests: list[str] = first["tests"]

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.answers.put(line)
        self.answers.put("")

    def answer(self, limit: float) -> dict[str, Any]:
        """The next answer; status crash or timeout if there is none."""
        try:
            line = self.answers.get(timeout=limit)
        except queue.Empty:
            self.stop()
            return {"status": "timeout", "message": f"no answer in {limit:g} s"}
        if line:
            return dict(json.loads(line))
        code = self.process.wait()
        self.errors.seek(0)
        return {"status": "crash", "message": f"exit code {code}: {self.errors.read()[-400:]}"}

    def ask(self, name: str, limit: float) -> dict[str, Any]:
        """Runs one test."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(name + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        return self.answer(limit)

    def stop(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.wait()
        self.reader.join()
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            if stream is not None and not stream.closed:
                stream.close()


Results = dict[str, dict[str, Any]]


def run_suite(
    engine: str, suite: str, include: str = "", limit: float = 30.0,
    names: list[str] | None = None, jobs: int = 1,
) -> Results:
    """Status and message of every test of a suite (those in `names`, or that match `include`)."""
    with tempfile.TemporaryDirectory() as folder:
        first = Worker(engine, suite, folder)
        wanted = [n for n in first.tests if not include or re.search(include, n)]
        if names is not None:
            wanted = [n for n in wanted if n in names]
        with ThreadPoolExecutor(jobs) as pool:
            parts = [
                pool.submit(run_names, first if k == 0 else None, engine, suite, folder,
                            wanted[k::jobs], limit)
                for k in range(jobs)
            ]
            found = {name: result for part in parts for name, result in part.result().items()}
    return {name: found[name] for name in wanted}


def run_names(
    worker: Worker | None, engine: str, suite: str, folder: str, names: list[str], limit: float
) -> Results:
    """Runs tests one after another, with a new worker at the start and after a crash or hang."""
    results: Results = {}
    worker = worker or Worker(engine, suite, folder)
    for name in names:
        answer = worker.ask(name, limit)
        results[name] = {"status": answer["status"], "message": answer["message"],
                         "host": answer.get("host", [])}
        if answer["status"] in ("crash", "timeout"):
            worker.stop()
            worker = Worker(engine, suite, folder)
    worker.stop()
    return results


def print_opaque(suite: str, results: Results) -> None:
    """How many passing tests ran an operator on the host, by operator."""
    passing = [result for result in results.values() if result["status"] == "pass"]
    opaque = [result["host"] for result in passing if result["host"]]
    share = len(opaque) / max(len(passing), 1)
    print(f"{suite}: {len(opaque)} of {len(passing)} passing tests ({share:.1%}) ran operators on "
          "the host")
    counts = Counter(op for host in opaque for op in {step.split(":")[0] for step in host})
    for op, count in counts.most_common():
        print(f"  {count:4} {op}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--suite", choices=[*SUITES, "all"], default="node")
    parser.add_argument("--engine", choices=("reference", "compiled"), default="compiled")
    parser.add_argument("--include", default="", help="only tests whose name matches")
    parser.add_argument("--out", "--report", type=Path, help="write all results there as JSON")
    parser.add_argument("--passing", type=Path, help="write the names of passing tests there")
    parser.add_argument("--limit", type=float, default=30.0, help="seconds per test")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.engine, options.suite)
        return
    started = time.monotonic()
    suites = list(SUITES) if options.suite == "all" else [options.suite]
    report = {
        suite: run_suite(options.engine, suite, options.include, options.limit, jobs=options.jobs)
        for suite in suites
    }
    for suite, results in report.items():
        counts = Counter(result["status"] for result in results.values())
        shown = ", ".join(f"{count} {status}" for status, count in counts.most_common())
        print(f"{suite}: {len(results)} tests: {shown}")
        if options.engine == "compiled":
            print_opaque(suite, results)
    print(f"{time.monotonic() - started:.0f} s")
    if options.out:
        options.out.write_text(json.dumps(report, indent=1, sort_keys=True))
    if options.passing:
        lines = [
            f"{suite} {name}" for suite, results in report.items()
            for name, result in sorted(results.items()) if result["status"] == "pass"
        ]
        options.passing.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
