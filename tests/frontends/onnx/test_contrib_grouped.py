"""com.microsoft: GroupQueryAttention in prompts and single steps, with and without room to grow."""

import numpy as np
import pytest
from contrib_node import compare, feeds, floats, node_model, rival

import bessemer
from bessemer.core.errors import UnsupportedOperatorError
from bessemer.frontends import import_model
from bessemer.ir.interpreter import run_graph

N, G, H = 4, 2, 16
OUTPUTS = ("y0", "y1", "y2")


def _inputs(rows, past, lengths, total, *, rotary=0, packed=False, positions=None, bias=None,
            sink=None):
    """The inputs for sequences of those lengths (new rows included); `past` is the cache's size."""
    batch = len(lengths)
    q, k, v = (floats(batch, rows, heads * H) for heads in (N, G, G))
    cache = [floats(batch, G, past, H) if past is not None else None for _ in range(2)]
    tables = [floats(40, rotary) if rotary else None for _ in range(2)]
    parts = [np.concatenate([q, k, v], axis=-1), None, None] if packed else [q, k, v]
    ends = np.array(lengths, np.int32) - 1
    inputs = [*parts, *cache, ends, np.array(total, np.int32), *tables, positions, bias, sink]
    while inputs[-1] is None:
        inputs.pop()
    return inputs


def _check(inputs, *, known=True, compiled=False, **attributes):
    """Compares with ONNX Runtime where rows and caches are defined: up to each length."""
    constants = (6,) if known else ()
    if len(inputs) > 7 and inputs[7] is not None:
        attributes["do_rotary"] = 1
    model = node_model("GroupQueryAttention", inputs, OUTPUTS, constants, num_heads=N,
                       kv_num_heads=G, **attributes)
    data = feeds(inputs, constants)
    expected = rival(model, data)
    graph = import_model(model)
    runs = [run_graph(graph, [data[value.name] for value in graph.inputs])]
    if compiled:
        found = bessemer.build(model).run(data)
        runs.append([found[name] for name in OUTPUTS])
    lengths = inputs[5] + 1
    for run in runs:
        for batch, length in enumerate(lengths):
            rows = slice(None, length if inputs[0].shape[1] == int(inputs[6]) else None)
            compare(run[0][batch, rows], expected[0][batch, rows])
            for cache, truth in zip(run[1:], expected[1:]):
                assert cache.shape == truth.shape
                compare(cache[batch, :, :length], truth[batch, :, :length])


def _places(*rows):
    return np.array(rows, np.int64)


@pytest.mark.rivals
@pytest.mark.parametrize(("inputs", "attributes"), [
    (_inputs(5, None, (5, 5), 5), {"compiled": True}),
    (_inputs(5, None, (5, 3), 5, rotary=8), {}),
    (_inputs(5, None, (5, 5), 5, rotary=8, packed=True), {"compiled": True}),
    (_inputs(5, 12, (5, 5), 5, rotary=8), {}),
    (_inputs(6, None, (6, 6), 6), {"local_window_size": 3, "compiled": True}),
    (_inputs(6, None, (6, 6), 6), {"softcap": 2.0, "scale": 0.3}),
    (_inputs(6, None, (6, 6), 6), {"causal": 0}),
    (_inputs(6, None, (6, 4), 6), {"causal": 0}),
    (_inputs(6, None, (6, 6), 6, bias=floats(1, 1, 6, 6)), {}),
    (_inputs(6, None, (6, 6), 6, rotary=8, positions=_places([5, 4, 3, 2, 1, 0], [9] * 6)), {}),
])
def test_prompt(inputs, attributes):
    _check(inputs, **attributes)


@pytest.mark.rivals
@pytest.mark.parametrize(("inputs", "attributes"), [
    (_inputs(1, 7, (8, 8), 8, rotary=8), {"compiled": True}),
    (_inputs(1, 7, (8, 5), 8, rotary=8), {}),
    (_inputs(1, 12, (8, 5), 8, rotary=8), {"rotary_interleaved": 1, "compiled": True}),
    (_inputs(1, 12, (8, 5), 8), {"local_window_size": 3}),
    (_inputs(1, 7, (8, 8), 8, bias=floats(2, N, 1, 8)), {}),
    (_inputs(1, 12, (8, 8), 8, bias=floats(2, N, 1, 8)), {"compiled": True}),
    (_inputs(1, 7, (8, 8), 8, rotary=8, positions=_places([3], [5])), {}),
    (_inputs(3, 7, (10,), 10, rotary=8), {}),
    (_inputs(3, 12, (10,), 10, rotary=8), {"local_window_size": 2, "compiled": True}),
])
def test_step(inputs, attributes):
    _check(inputs, **attributes)


@pytest.mark.rivals
@pytest.mark.parametrize(("inputs", "attributes"), [
    (_inputs(6, None, (6, 6), 6), {"smooth_softmax": 1}),
    (_inputs(6, None, (6, 6), 6, sink=floats(N)), {"compiled": True}),
    (_inputs(6, None, (6, 6), 6, sink=floats(N), bias=floats(1, 1, 6, 6)), {"softcap": 2.0}),
    (_inputs(1, 7, (8, 5), 8, sink=floats(N)), {"local_window_size": 3}),
    (_inputs(6, None, (6, 6), 6, sink=floats(N)), {"causal": 0}),
])
def test_sinks(inputs, attributes):
    _check(inputs, **attributes)


@pytest.mark.rivals
@pytest.mark.parametrize("inputs", [
    _inputs(1, 7, (8, 5), 8, rotary=8),
    _inputs(5, 7, (5, 5), 5, rotary=8, positions=_places(range(5), range(5))),
    _inputs(5, None, (5, 5), 5),
])
def test_total_length_that_shows_at_run_time(inputs):
    _check(inputs, known=False)


@pytest.mark.parametrize(("inputs", "attributes", "words"), [
    (_inputs(5, None, (5,), 5), {"qk_output": 1}, "qk_output"),
    (_inputs(5, None, (5,), 5), {"k_quant_type": "PER_TENSOR"}, "a quantised cache"),
    (_inputs(1, 9, (5,), 5), {"sliding_window_cache": 1}, "sliding_window_cache"),
    (_inputs(1, 9, (5,), 5, sink=floats(N), bias=floats(1, 1, 1, 5)), {}, "beside a sink"),
])
def test_options_that_are_not_supported_are_named(inputs, attributes, words):
    with pytest.raises(UnsupportedOperatorError, match=words):
        import_model(node_model("GroupQueryAttention", inputs, OUTPUTS, (6,), num_heads=N,
                                kv_num_heads=G, **attributes))
