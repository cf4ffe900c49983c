"""Features of a schedule: what its loops do, as numbers that a cost model learns from."""

import math
from typing import Any

import numpy as np

from bessemer.core.shapes import usual
from bessemer.lower.kernel import Kernel
from bessemer.schedule.rule import Scheduled
from bessemer.targets.target import Target
from bessemer.tune.nest_model import NestModel, model_of

NAMES = (
    "estimate", "arithmetic", "loads", "from_l2", "from_l3", "from_memory", "balance",
    "fma", "simple", "costly", "vector_loads", "broadcasts", "gathers", "stores", "guarded",
    "turns", "code", "accumulators", "stack", "chains", "depth", "parts", "imbalance",
    "loads_per_fma", "broadcasts_per_load", "turns_per_fma", "prefetch", "constants",
    "vector_bits", "registers", "threads", "l1_share", "l2_share",
)  # fmt: skip

_CYCLE_SECONDS = 1 / 2.5e9
_L2_BYTES_PER_CYCLE = 24.0
_L3_BYTES_PER_CYCLE = 9.0
_MEMORY_BYTES_PER_CYCLE = 4.5


def features_of(kernel: Kernel, scheduled: Scheduled, target: Target, threads: int
                ) -> np.ndarray[Any, Any]:
    """One number for each of NAMES, f64."""
    hints = kernel.notes.get("usual", {})
    found = model_of(scheduled.function, target, threads, hints)
    constants = [usual(o.layout.count(o.shape), hints) * o.dtype.size_bytes
                 for o in scheduled.operands if o.constant is not None]
    return np.array(_features(found, scheduled, target, threads, float(sum(constants))), np.float64)


def _features(model: NestModel, scheduled: Scheduled, target: Target, threads: int,
              constant_bytes: float) -> list[float]:
    counts = model.counts
    l1, l2 = model.missed_bytes(target.l1_bytes), model.missed_bytes(target.l2_bytes)
    far = min(model.missed_bytes(target.l3_bytes // 2) + constant_bytes / threads, l2 or 1e30)
    loads = counts.vector_loads + counts.broadcasts + 8 * counts.gathers
    arithmetic = (counts.fma + counts.simple + 12 * counts.costly) / 2
    cycles = (arithmetic, (loads + counts.stores) / 2, l1 / _L2_BYTES_PER_CYCLE,
              l2 / _L3_BYTES_PER_CYCLE, far / _MEMORY_BYTES_PER_CYCLE)
    # A multiply-add takes 4 cycles: fewer than 8 independent ones leave the units idle.
    stalls = max(1.0, 8.0 / max(counts.chains, 1.0)) if counts.fma else 1.0
    estimate = max(max(cycles), arithmetic * stalls) + counts.turns
    work = max(counts.fma, counts.simple, loads, 1.0)
    ahead = max((size for _, size in scheduled.function.notes.get("prefetch", ())), default=0)
    logs = (estimate, *(value / estimate for value in cycles), max(cycles) / sum(cycles),
            counts.fma, counts.simple, counts.costly, counts.vector_loads, counts.broadcasts,
            counts.gathers, counts.stores, counts.guarded, counts.turns, counts.code)
    return [
        *(math.log2(value + 1e-3) for value in logs), float(counts.accumulators),
        math.log2(counts.stack_bytes + 1.0), counts.chains, math.log2(counts.depth + 1.0),
        math.log2(counts.parts), counts.imbalance, loads / work,
        (counts.broadcasts + 1) / (loads + 1), counts.turns / work,
        math.log2(ahead + 1.0), math.log2(constant_bytes + 1.0), float(target.vector_bits),
        float(target.vector_registers), float(threads),
        math.log2((l1 + 1) / target.l1_bytes), math.log2((l2 + 1) / target.l2_bytes)]


def estimated_seconds(features: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The time that the counts alone suggest, for rows of features."""
    return np.asarray(np.exp2(features[..., 0]) * _CYCLE_SECONDS)
