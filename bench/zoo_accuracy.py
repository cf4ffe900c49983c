"""Builds every network of the zoo at full size and compares it with ONNX Runtime.

    python bench/zoo_accuracy.py [NAME ...] [--threads N] [--duration S] [--history FILE]

Prints, for each, the relative error (norm of the difference over norm), the build time and both
latencies from one interleaved run; appends one JSON line per network to the history file.
Exit code 1 if any error is above 1e-4.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import bessemer
from bessemer.bench.latency import measure, paired_ratio
from bessemer.bench.rivals import load_onnxruntime
from bessemer.debug.difference import compare_named
from bessemer.zoo import make_model, model_names, sample_inputs

LIMIT = 1e-4


def examine(name: str, threads: int, duration_s: float) -> dict[str, float | str | int]:
    """Builds, compares and times one network."""
    model = make_model(name)
    inputs = sample_inputs(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.onnx"
        path.write_bytes(model.SerializeToString())
        started = time.perf_counter()
        engine = bessemer.build(path, threads=threads)
        build_s = time.perf_counter() - started
        rival = load_onnxruntime(path, threads=threads)
    differences = compare_named(rival.run(inputs), engine.run(inputs))
    context = engine.create_context()
    ours, theirs = measure(
        [("bessemer", lambda: context.run(inputs)), ("onnxruntime", lambda: rival.run(inputs))],
        duration_s=duration_s,
    )
    return {
        "model": name,
        "threads": threads,
        "relative_error": max(difference.norm_error for difference in differences),
        "build_s": round(build_s, 2),
        "bessemer_ms": round(ours.median_ns / 1e6, 4),
        "onnxruntime_ms": round(theirs.median_ns / 1e6, 4),
        "times_faster": round(paired_ratio(ours, theirs)[0], 3),
        "arena_bytes": engine.memory.arena_bytes,
        "weights_bytes": engine.memory.weights_bytes,
    }


def main() -> int:
    """Runs the networks asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks; default: all")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--duration", type=float, default=2.0, help="seconds for each runtime")
    parser.add_argument("--history", type=Path, help="JSON-lines file to append to")
    given = parser.parse_args()
    worst = 0.0
    print(f"{'model':16} {'error':>8} {'build':>7} {'bessemer':>10} {'onnxrt':>10} {'faster':>7}")
    for name in given.names or model_names():
        row = examine(name, given.threads, given.duration)
        worst = max(worst, float(row["relative_error"]))
        print(
            f"{name:16} {row['relative_error']:8.1e} {row['build_s']:6.1f}s "
            f"{row['bessemer_ms']:8.2f}ms {row['onnxruntime_ms']:8.2f}ms "
            f"{row['times_faster']:6.2f}x",
            flush=True,
        )
        if given.history:
            with given.history.open("a") as file:
                file.write(json.dumps({"time": time.time(), **row}) + "\n")
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
