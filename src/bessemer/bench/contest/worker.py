"""The process of one runtime: loads the model, then runs slices when it is told to.

    python -m bessemer.bench.contest.worker

It reads JSON lines from stdin and answers each with one on stdout; what libraries print goes to
stderr. The first line is the task, as `race` writes it.
"""

import ctypes
import gc
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bessemer.bench.contest.task import Loaded, Task, make_peer
from bessemer.bench.machine import peak_resident_bytes
from bessemer.core.errors import BessemerError

_MOST_SAMPLES = 4000
_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Serves one parent until it closes stdin or says so."""
    _end_with_parent()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def say(**fields: Any) -> None:
        answers.write(json.dumps(fields) + "\n")

    order = json.loads(sys.stdin.readline())
    try:
        if order["action"] == "prepare":
            say(**_prepare(order))
            return 0
        loaded = _load(order, say)
    except BessemerError as error:
        say(reason=f"{type(error).__name__}: {error}")
        return 1
    gc.disable()
    for line in sys.stdin:
        command = json.loads(line)
        if "seconds" not in command:
            break
        times = _slice(loaded.run, command["seconds"])
        say(times_ns=times, peak_bytes=peak_resident_bytes())
    return 0


def _end_with_parent() -> None:
    """A stopped process would not notice that nobody is left to wake it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def task_of(order: dict[str, Any]) -> Task:
    """The task in an order's plain values."""
    with np.load(order["inputs"]) as arrays:
        inputs = {name: arrays[name] for name in order["input_names"]}
    return Task(Path(order["model"]), inputs, tuple(order["outputs"]), order["threads"],
                Path(order["folder"]), order["streams"])


def _prepare(order: dict[str, Any]) -> dict[str, Any]:
    subject = make_peer(order["peer"])
    version, task = subject.version(), task_of(order)
    start = time.perf_counter()
    subject.prepare(task)
    return {"version": version, "prepare_s": time.perf_counter() - start}


def _load(order: dict[str, Any], say: Callable[..., None]) -> Loaded:
    subject, task = make_peer(order["peer"]), task_of(order)
    start = time.perf_counter()
    loaded = subject.load_streams(task) if task.streams > 1 else subject.load(task)
    load_s = time.perf_counter() - start
    start = time.perf_counter()
    loaded.run()
    first_s = time.perf_counter() - start
    found = [np.asarray(each) for each in loaded.outputs()]
    np.savez(order["results"], *found)
    say(load_s=load_s, first_s=first_s, note=loaded.note, items=loaded.items,
        peak_bytes=peak_resident_bytes())
    return loaded


def _slice(run: Callable[[], object], seconds: float) -> list[int]:
    """Times of runs over so many seconds, at least one; the first of all is not counted."""
    run()  # other runtimes have had the caches meanwhile
    times: list[int] = []
    clock = time.perf_counter_ns
    end = clock() + int(seconds * 1e9)
    while not times or clock() < end:
        start = clock()
        run()
        times.append(clock() - start)
    return times[:: 1 + len(times) // _MOST_SAMPLES]


if __name__ == "__main__":
    sys.exit(main())
