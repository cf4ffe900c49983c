"""What the cost model sees of a loop nest: how often statements run, and which ones tests guard."""

import numpy as np
import pytest

from bessemer import te
from bessemer.core.dtypes import f32
from bessemer.lower.kernel import Kernel, Operand
from bessemer.schedule.rule import make_loops
from bessemer.targets import get_target
from bessemer.tune.nest_model import model_of

TARGET = get_target("x86-avx512")


def product(columns, rows, depth):
    a, b = te.placeholder(f32, (rows, depth), "a"), te.placeholder(f32, (depth, columns), "b")
    k = te.reduce_axis(depth)
    total = te.compute(f32, (rows, columns), lambda i, j: te.sum_(a[i, k] * b[k, j], k))
    weights = np.ones((depth, columns), np.float32)
    return Kernel("product", [Operand.dense(a), Operand.dense(b, None, weights)],
                  [Operand.dense(total)])


def counts_of(columns, kblock):
    """Counts of one thread over a product, whose sum is cut into blocks (0: it is not)."""
    knobs = {"rows": 8, "vectors": 2, "kblock": kblock, "unroll": 4, "share": "columns",
             "prefetch": 0}
    scheduled = make_loops(product(columns, 16, 64), TARGET, "product", "matmul", knobs)
    return model_of(scheduled.function, TARGET, 1).counts


@pytest.mark.parametrize("blocks", [1, 2, 4])
def test_partial_sums_are_added_in_all_blocks_but_the_first(blocks):
    counts = counts_of(64, 64 // blocks if blocks > 1 else 0)
    results = 16 * 64 // 16
    assert counts.fma == results * 64
    assert counts.guarded == 0
    assert counts.simple == results * (blocks - 1)
    assert counts.stores == results * blocks


def test_columns_behind_the_last_are_guarded():
    assert counts_of(60, 0).guarded > 0
    assert counts_of(60, 16).guarded > 0


def test_products_of_tiles_count_as_the_multiply_adds_that_take_as_long():
    kernel = product(64, rows=96, depth=96)
    scheduled = make_loops(kernel, get_target("x86-amx"), "product", "matrix_unit")
    counts = model_of(scheduled.function, get_target("x86-amx"), 1).counts
    tiles, steps, terms = 96 // 16 * 64 // 16, 96 // 32, 6
    assert counts.fma == tiles * steps * terms * 32
