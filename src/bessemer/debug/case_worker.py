"""Runs numbered cases in a worker process: a crash or a hang ends only the worker.

The worker writes one JSON line before a case (`{"start": 7}`), any lines with `{"stage": ...}`,
and one after it with `"index"`. The parent hands out what is missing to a new worker.
"""

import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

STARTUP_S = 120.0
"""How long a worker may take for its imports."""


def run_cases(
    command: Callable[[int, int], Sequence[str]], start: int, stop: int, limit_s: float,
    environment: Mapping[str, str] | None = None,
) -> Iterator[dict[str, Any]]:
    """The result lines of all cases from `start` to `stop`, in order.

    `command(first, count)` is a worker's command line. A case that ends its worker, or takes
    longer than `limit_s`, has the status "crash" or "hang" and the stage that it was in.
    """
    following = start
    while following < stop:
        for entry in _one_worker(command(following, stop - following), following, stop, limit_s,
                                 environment):
            following = int(entry["index"]) + 1
            yield entry


def say(entry: Mapping[str, Any]) -> None:
    """Writes a line for the parent; a worker calls it."""
    sys.stdout.write(json.dumps(entry) + "\n")
    sys.stdout.flush()


def _one_worker(
    command: Sequence[str], start: int, stop: int, limit_s: float,
    environment: Mapping[str, str] | None,
) -> Iterator[dict[str, Any]]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                               text=True, env=environment)
    lines: queue.Queue[str] = queue.Queue()
    assert process.stdout is not None
    reader = threading.Thread(target=_forward, args=(process.stdout, lines), daemon=True)
    reader.start()
    current, waiting, stage = start, STARTUP_S, ""
    try:
        while current < stop:
            try:
                line = lines.get(timeout=waiting)
            except queue.Empty:
                yield _lost(current, "hang", f"more than {waiting:g} s", stage)
                return
            if not line:
                yield _lost(current, "crash", f"exit code {process.wait()}", stage)
                return
            with contextlib.suppress(json.JSONDecodeError):
                entry = json.loads(line)
                if "start" in entry:
                    current, waiting, stage = entry["start"], limit_s, ""
                elif "stage" in entry:
                    stage = entry["stage"]
                else:
                    current = entry["index"] + 1
                    yield entry
    finally:
        process.kill()
        process.wait()
        reader.join()
        process.stdout.close()


def _lost(index: int, status: str, message: str, stage: str) -> dict[str, Any]:
    where = f" in stage {stage}" if stage else ""
    return {"index": index, "status": status, "message": message + where, "at": stage}


def _forward(stream: Any, lines: "queue.Queue[str]") -> None:
    for line in stream:
        lines.put(line)
    lines.put("")
