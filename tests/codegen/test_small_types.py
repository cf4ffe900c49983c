"""Machine code converts between all pairs of numeric types as numpy and ml_dtypes do, bit by bit.

Sources of 16 bits and fewer are tried completely; f32 and f64 at every value of the small types, in
the middle between two of them, and one step beside each.
"""

import numpy as np
import pytest

from bessemer.compiler.build import BuildOptions, compile_graph
from bessemer.core.dtypes import COMPILED, DTYPES, DType, as_type, boolean, f16, f32, f64
from bessemer.ir.graph import Graph
from bessemer.ir.types import TensorType
from bessemer.ops.cast import Cast, convert
from bessemer.targets import get_target

# Conversions of NaN and of what is out of range are what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

SMALL_FLOATS = [dtype for dtype in COMPILED if dtype.is_small and dtype.is_float]
SIGNALLING = np.array([0x7F800001, 0xFFC00000, 0x7FFFFFFF], np.uint32).view(np.float32)


def values_of(dtype: DType) -> np.ndarray:
    """Every value of a type of up to 16 bits, or those where something happens."""
    if dtype == boolean:
        return np.array([False, True])
    if dtype.bits <= 16:
        unsigned = np.uint8 if dtype.bits <= 8 else np.uint16
        return np.arange(1 << dtype.bits).astype(unsigned).view(dtype.numpy)
    if dtype.is_float:
        return edges(dtype)
    limits = np.iinfo(dtype.numpy)
    rng = np.random.default_rng(7)
    parts = [np.arange(5000), rng.integers(0, 70000, 5000), [limits.min, limits.max],
             rng.integers(limits.min, limits.max, 5000, dtype=dtype.numpy, endpoint=True)]
    if dtype.kind == "int":
        parts.append(-np.arange(5000))
    return np.concatenate([np.asarray(part).astype(dtype.numpy) for part in parts])


def edges(dtype: DType) -> np.ndarray:
    """Values of f32 or f64 around all values of smaller floats."""
    parts = [SIGNALLING.astype(dtype.numpy)]
    for small in (*SMALL_FLOATS, f16):
        every = values_of(small).astype(dtype.numpy)
        finite = np.unique(every[np.isfinite(every)])
        for near in (every, (finite[1:] + finite[:-1]) / 2):
            parts += [near, np.nextafter(near, np.inf), np.nextafter(near, -np.inf)]
    patterns = np.arange(0, 2**32, 99991, dtype=np.uint64).astype(np.uint32)
    return np.concatenate([*parts, patterns.view(np.float32)]).astype(dtype.numpy)


def is_defined(source: np.ndarray, to: DType) -> np.ndarray:
    """False for floats outside the range of an integer type: nothing defines their conversion."""
    kind = as_dtype(source)
    if not kind.is_float or not to.is_integer:
        return np.ones(source.shape, bool)
    wide = source.astype(np.float64)
    if to.bits < 8:
        return np.abs(wide) < 2.0**24
    limits = np.iinfo(to.numpy)
    return (np.trunc(wide) >= limits.min) & (wide < float(limits.max) + (to.bits < 64))


def as_dtype(array: np.ndarray) -> DType:
    return next(dtype for dtype in DTYPES.values() if dtype.numpy == array.dtype)


def assert_same(got: np.ndarray, want: np.ndarray, source: np.ndarray, to: DType) -> None:
    ok = got.view(f"u{got.itemsize}") == want.view(f"u{got.itemsize}")
    if to.is_float:
        ok |= np.isnan(got.astype(np.float64)) & np.isnan(want.astype(np.float64))
    wrong = np.flatnonzero(~ok & is_defined(source, to))[:5]
    assert not wrong.size, f"{source[wrong]!r} to {to}: {got[wrong]!r}, expected {want[wrong]!r}"


def run_casts(array: np.ndarray, casts: list[Cast]) -> list[np.ndarray]:
    graph = Graph("casts")
    x = graph.add_input("x", TensorType.of(array, keep_value=False))
    for k, cast in enumerate(casts):
        graph.outputs += graph.add_node(cast, [x], name=f"n{k}", outputs=[f"y{k}"]).outputs
    engine = compile_graph(graph, BuildOptions((get_target("host"),), strict=True)).engine
    results = engine.run({"x": array})
    return [results[f"y{k}"] for k in range(len(casts))]


@pytest.mark.parametrize("source", COMPILED, ids=str)
def test_every_pair(source):
    array = values_of(source)
    targets = [dtype for dtype in COMPILED if dtype != source and dtype.name != "f8e8m0"]
    found = run_casts(array, [Cast(to=dtype.name, saturate=0) for dtype in targets])
    for dtype, got in zip(targets, found, strict=True):
        want = array != 0 if dtype == boolean else as_type(array, dtype)
        assert_same(got, np.asarray(want), array, dtype)


@pytest.mark.parametrize("source", [f32, f64, f16, DTYPES["bf16"], DTYPES["i16"]], ids=str)
def test_saturating(source):
    array = values_of(source)
    targets = [dtype for dtype in SMALL_FLOATS if dtype.name != "f8e8m0"]
    found = run_casts(array, [Cast(to=dtype.name) for dtype in targets])
    for dtype, got in zip(targets, found, strict=True):
        assert_same(got, convert(array, dtype), array, dtype)


@pytest.mark.parametrize("source", [f32, f16, DTYPES["bf16"], DTYPES["f8e5m2"]], ids=str)
def test_powers_of_two(source):
    array = values_of(source)
    casts = [Cast(to="f8e8m0", saturate=saturate, round_mode=mode)
             for saturate in (0, 1) for mode in ("up", "down", "nearest")]
    for cast, got in zip(casts, run_casts(array, casts), strict=True):
        assert_same(got, cast.reference(array), array, DTYPES["f8e8m0"])
