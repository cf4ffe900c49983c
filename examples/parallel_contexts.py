"""Serves many requests with several contexts of one engine, each with memory of its own.

python examples/parallel_contexts.py
"""

import queue
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import bessemer
from bessemer.zoo import digits_path

REQUESTS, CONTEXTS = 2000, 2


def main() -> None:
    """Runs the same requests one after the other, then by two contexts side by side."""
    engine = bessemer.build(digits_path(), threads=1)
    random = np.random.default_rng(0)
    requests = [random.random((1, 1, 8, 8), np.float32) for _ in range(REQUESTS)]

    start = time.perf_counter()
    one_by_one = [engine.run({"input": request})["scores"] for request in requests]
    print(f"one context:  {REQUESTS / (time.perf_counter() - start):8.0f} requests a second")

    free: queue.SimpleQueue[bessemer.ExecutionContext] = queue.SimpleQueue()
    for _ in range(CONTEXTS):
        free.put(engine.create_context())

    def answer(request: np.ndarray) -> np.ndarray:
        context = free.get()
        try:
            return context.run({"input": request})["scores"]
        finally:
            free.put(context)

    with ThreadPoolExecutor(CONTEXTS) as workers:
        start = time.perf_counter()
        side_by_side = list(workers.map(answer, requests))
        speed = REQUESTS / (time.perf_counter() - start)
    print(f"{CONTEXTS} contexts:   {speed:8.0f} requests a second")
    assert all(np.array_equal(a, b) for a, b in zip(one_by_one, side_by_side))


if __name__ == "__main__":
    main()
