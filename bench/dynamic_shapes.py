"""One engine for all shapes: right answers at once, latency once a shape recurs, no growth.

    python bench/dynamic_shapes.py resnet50|bert_base [--shapes N] [--timed N] [--runs N]

Builds the dynamic form of a network and runs it over random shapes, each checked against ONNX
Runtime. For some of them the variant that a recurring shape gets is timed beside an engine built
for that shape, interleaved. Then runs many random shapes and prints how the resident set changed.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import bessemer
from bessemer.bench.latency import measure, paired_ratio
from bessemer.bench.machine import resident_bytes
from bessemer.bench.rivals import load_onnxruntime
from bessemer.zoo import ZooOptions, make_model


def random_inputs(name: str, random: np.random.Generator, small: bool) -> dict:
    """Inputs of a random shape."""
    if name == "bert_base":
        shape = (int(random.integers(1, 3 if small else 5)), int(random.integers(1, 25 if small
                                                                                 else 200)))
        return {"input_ids": random.integers(0, 30000, shape),
                "attention_mask": (random.random(shape) < 0.9).astype(np.int64),
                "token_type_ids": random.integers(0, 2, shape)}
    sides = random.integers(32, 64 if small else 257, 2)
    shape = (int(random.integers(1, 3)), 3, *map(int, sides))
    return {"input": random.standard_normal(shape).astype(np.float32)}


def check(engine, rival, feeds) -> tuple[float, float]:
    """The worst relative error over the shapes, and the mean first latency in ms."""
    worst, spent = 0.0, 0.0
    for feed in feeds:
        started = time.perf_counter()
        got = engine.run(feed)
        spent += time.perf_counter() - started
        for want, found in zip(rival.run(feed).values(), got.values(), strict=True):
            norm = np.linalg.norm(np.asarray(want, np.float64))
            worst = max(worst, float(np.linalg.norm(found - np.asarray(want)) / max(norm, 1e-12)))
    return worst, 1e3 * spent / max(len(feeds), 1)


def time_variant(engine, path, feed, threads: int) -> tuple[float, float, float]:
    """Milliseconds of the engine for all shapes and of one for this shape, and their ratio."""
    values = {}
    for binding in engine.plan.inputs:
        for dim, extent in zip(binding.shape or (), feed[binding.name].shape, strict=True):
            if isinstance(dim, str):
                values[dim] = extent
    engine.specialise(values)
    fixed = bessemer.build(path, threads=threads, shapes=values)
    a, b = engine.create_context(), fixed.create_context()
    ours, theirs = measure([("all shapes", lambda: a.run(feed)),
                            ("this shape", lambda: b.run(feed))], duration_s=4.0)
    a.close()
    b.close()
    return ours.median_ns / 1e6, theirs.median_ns / 1e6, paired_ratio(ours, theirs)[0]


def growth(engine, name: str, random, runs: int) -> None:
    """Prints the resident set before and after many random shapes."""
    pool = [random_inputs(name, random, True) for _ in range(200)]
    for feed in pool * 2:
        engine.run(feed)
    engine.wait_specialised()
    before = resident_bytes()
    for number in range(runs):
        engine.run(pool[int(random.integers(len(pool)))])
        if (number + 1) % max(runs // 5, 1) == 0:
            now = resident_bytes()
            print(f"  after {number + 1} runs: {now / 1e6:.1f} MB ({now / before - 1:+.2%})",
                  flush=True)


def main() -> int:
    """Runs the checks asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=("resnet50", "bert_base"))
    parser.add_argument("--shapes", type=int, default=40)
    parser.add_argument("--timed", type=int, default=3)
    parser.add_argument("--runs", type=int, default=10000)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    random = np.random.default_rng(11)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(make_model(given.name, ZooOptions(dynamic=True)).SerializeToString())
        started = time.perf_counter()
        engine = bessemer.build(path, threads=given.threads)
        print(f"{given.name}: built in {time.perf_counter() - started:.1f} s", flush=True)
        rival = load_onnxruntime(path, threads=given.threads)
        feeds = [random_inputs(given.name, random, False) for _ in range(given.shapes)]
        worst, first = check(engine, rival, feeds)
        print(f"{given.shapes} random shapes: worst relative error {worst:.2e}, first run of a "
              f"shape {first:.1f} ms on average", flush=True)
        for feed in feeds[: given.timed]:
            ours, theirs, ratio = time_variant(engine, path, feed, given.threads)
            shape = next(iter(feed.values())).shape
            print(f"  {shape}: {ours:.2f} ms, engine for this shape {theirs:.2f} ms "
                  f"({ratio:.3f} x)", flush=True)
        if given.runs:
            growth(engine, given.name, random, given.runs)
    return 0 if worst < 1e-4 else 1


if __name__ == "__main__":
    sys.exit(main())
