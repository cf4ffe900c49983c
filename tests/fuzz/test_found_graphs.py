"""Graphs on which the fuzzer once found Bessemer wrong, as short as it made them."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from bessemer.core.dtypes import dtype_from_numpy
from bessemer.debug.random_graphs.models import onnx_dtype
from bessemer.debug.random_graphs.oracles import reference_values, run_engine
from bessemer.debug.random_graphs.verdict import Judge


def random(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).uniform(-2, 2, shape).astype(dtype)


def info(name, array):
    return helper.make_tensor_value_info(
        name, onnx_dtype(dtype_from_numpy(array.dtype).name), array.shape)


def check(nodes, arrays, outputs, opset=21, constants=()):
    """Builds and runs a graph; every output must agree with the reference."""
    inputs = {name: array for name, array in arrays.items() if name not in constants}
    tensors = [numpy_helper.from_array(arrays[name], name) for name in constants]
    results = [helper.make_tensor_value_info(name, 0, None) for name in outputs]
    for result in results:
        result.ClearField("type")
    graph = helper.make_graph(nodes, "g", [info(n, a) for n, a in inputs.items()], results, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    imported, values = reference_values(model, inputs)
    found = run_engine(model, inputs)
    assert set(found) == set(outputs)
    assert Judge(imported, inputs, values).compare(found) == []
    return found


def test_empty_constants_at_the_end_of_the_pool():
    nodes = [helper.make_node("Shape", ["x"], ["v"], start=-2, end=0),
             helper.make_node("Concat", ["x", "c"], ["y"], axis=0)]
    check(nodes, {"x": random(3, 1), "c": random(2, 1)}, ["v", "y"])


def test_normalisation_into_a_part_of_a_concat():
    nodes = [helper.make_node("LayerNormalization", ["x", "s", "b"], ["n"], axis=-1),
             helper.make_node("Concat", ["n", "z", "z"], ["y"], axis=-2)]
    check(nodes, {"x": random(4, 4, 1), "s": random(1), "b": random(1), "z": random(4, 2, 1)},
          ["y"])


def test_one_piece_of_a_split_in_a_reduction_and_another_elsewhere():
    nodes = [helper.make_node("Split", ["x"], ["a", "b"], axis=0, num_outputs=2),
             helper.make_node("Softmax", ["b"], ["s"], axis=0),
             helper.make_node("Round", ["a"], ["r"])]
    check(nodes, {"x": random(6, 3)}, ["s", "r"])


def test_output_that_a_padded_convolution_reads_too():
    nodes = [helper.make_node("Abs", ["x"], ["a"]),
             helper.make_node("Conv", ["a", "w"], ["y"], pads=[0, 2])]
    graph_inputs = {"x": random(1, 2, 3), "w": random(2, 2, 3, seed=1)}
    check(nodes, graph_inputs, ["a", "y"], constants=("w",))


def body(nodes, inputs, outputs):
    """A body graph; values are (name, dtype, shape)."""
    def infos(values):
        return [helper.make_tensor_value_info(n, onnx_dtype(d), s) for n, d, s in values]

    return helper.make_graph(nodes, "body", infos(inputs), infos(outputs))


def test_loop_that_starts_from_a_folded_constant():
    inner = body(
        [helper.make_node("Abs", ["s"], ["o"]), helper.make_node("Mul", ["o", "s"], ["z"]),
         helper.make_node("Identity", ["k"], ["d"])],
        [("i", "i64", []), ("k", "bool", []), ("s", "f32", [2, 3])],
        [("d", "bool", []), ("o", "f32", [2, 3]), ("z", "f32", [2, 3])])
    nodes = [helper.make_node("Concat", ["c"], ["start"], axis=0),
             helper.make_node("Loop", ["n", "", "start"], ["last", "all"], body=inner)]
    check(nodes, {"n": np.array(2), "c": random(2, 3)}, ["last", "all"], constants=("c",))


def test_scan_that_starts_from_a_folded_constant():
    inner = body(
        [helper.make_node("Abs", ["s"], ["o"]), helper.make_node("Add", ["o", "x"], ["z"])],
        [("s", "f32", [3]), ("x", "f32", [3])], [("o", "f32", [3]), ("z", "f32", [3])])
    nodes = [helper.make_node("Concat", ["c"], ["start"], axis=0),
             helper.make_node("Scan", ["start", "c2"], ["last", "all"], body=inner,
                              num_scan_inputs=1)]
    check(nodes, {"c": random(3), "c2": random(2, 3)}, ["last", "all"], constants=("c",))


def test_mean_of_samples_that_are_kept_for_it():
    nodes = [helper.make_node("GridSample", ["x", "g"], ["s"], mode="cubic",
                              padding_mode="border"),
             helper.make_node("GlobalAveragePool", ["s"], ["y"])]
    check(nodes, {"x": random(1, 2, 4, 2), "g": random(1, 3, 3, 2)}, ["y"], constants=("g",))


def test_product_of_vectors_padded_on_the_stack():
    nodes = [helper.make_node("MatMul", ["a", "b"], ["m"]),
             helper.make_node("Pad", ["m", "pads"], ["y"])]
    check(nodes, {"a": random(3), "b": random(3, 6), "pads": np.array([1, 2])}, ["y"],
          constants=("pads",))


def test_host_step_reads_what_a_padded_convolution_reads():
    nodes = [helper.make_node("Abs", ["x"], ["a"]),
             helper.make_node("Conv", ["a", "w"], ["y"], pads=[1, 0, 2, 0]),
             helper.make_node("NonZero", ["a"], ["places"])]
    check(nodes, {"x": random(1, 1, 7, 2), "w": random(2, 1, 4, 1)}, ["y", "places"],
          constants=("w",))


def test_transposed_convolution_with_an_infinite_weight():
    w = random(2, 2, 3, 4)
    w[0, 0, 0, 0] = np.inf
    check([helper.make_node("ConvTranspose", ["x", "w"], ["y"])],
          {"x": random(1, 2, 5, 6), "w": w}, ["y"], constants=("w",))


def test_part_of_a_tensor_beside_the_tensor():
    bounds = {"from": np.array([1]), "to": np.array([11])}
    nodes = [helper.make_node("ArgMin", ["x"], ["a"], axis=-1, keepdims=0),
             helper.make_node("Slice", ["a", "from", "to"], ["part"]),
             helper.make_node("Concat", ["part", "a"], ["joined"], axis=0),
             helper.make_node("Neg", ["joined"], ["y"])]
    check(nodes, {"x": random(9, 2), **bounds}, ["y"], constants=tuple(bounds))


def with_element(array, place, value):
    array[place] = value
    return array


def test_transposed_convolution_keeps_nan_out_of_its_neighbours():
    x = with_element(random(1, 4, 2, 3), (0, 2, 0, 1), np.nan)
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2],
                            pads=[1, 1, 0, 1], output_padding=[0, 1])
    check([node], {"x": x, "w": random(4, 1, 2, 3, seed=1)}, ["y"], constants=("w",))


def test_deformed_convolution_beside_an_infinity():
    x = with_element(random(1, 2, 3, 3), (0, 0, 0, 0), np.inf)
    node = helper.make_node("DeformConv", ["x", "w", "o"], ["y"])
    check([node], {"x": x, "w": random(3, 2, 2, 2, seed=1), "o": random(1, 8, 2, 2, seed=2)},
          ["y"], opset=22)


def test_zeros_around_an_image_with_infinities():
    x = random(1, 1, 4, 4)
    x[..., 0], x[..., -1] = np.inf, -np.inf
    for mode in ("linear", "cubic"):
        node = helper.make_node("GridSample", ["x", "g"], ["y"], mode=mode)
        check([node], {"x": x, "g": random(1, 5, 5, 2, seed=3)}, ["y"], opset=22)


def test_keys_that_are_left_out_do_not_count():
    key = with_element(random(1, 2, 4, 4, seed=1), (0, 0, 2, 0), np.nan)
    key[0, 1, 3, 1] = np.inf
    mask = np.random.default_rng(4).integers(0, 2, (3, 4)).astype(bool)
    arrays = {"q": random(1, 2, 3, 4), "k": key, "v": random(1, 2, 4, 3, seed=2), "m": mask}
    for causal, inputs in ((1, ["q", "k", "v"]), (0, ["q", "k", "v", "m"])):
        node = helper.make_node("Attention", inputs, ["y"], is_causal=causal)
        check([node], {name: arrays[name] for name in inputs}, ["y"], opset=24)


def test_infinite_cell_of_a_recurrent_layer():
    cell = with_element(random(1, 2, 2, seed=4), (0, 0, 1), -np.inf)
    arrays = {"x": random(2, 2, 1), "w": random(1, 8, 1, seed=1), "r": random(1, 8, 2, seed=2),
              "h": random(1, 2, 2, seed=3), "c": cell}
    node = helper.make_node("LSTM", ["x", "w", "r", "", "", "h", "c"], ["y", "last"],
                            hidden_size=2)
    check([node], arrays, ["y", "last"])


def test_one_string_of_many():
    texts = np.array(["", "Monday", "B"], object)
    found = check([helper.make_node("Gather", ["x", "i"], ["y"])],
                  {"x": texts, "i": np.array(1)}, ["y"])
    assert found["y"] == "Monday"


def test_scalar_beside_a_line():
    check([helper.make_node("Add", ["a", "x"], ["y"])], {"a": random(), "x": random(4)}, ["y"])


def test_casts_through_types_that_lose_digits():
    for dtype, through in ((np.uint8, "FLOAT8E4M3FNUZ"), (np.int8, "FLOAT8E5M2"),
                           (np.int64, "DOUBLE")):
        info = np.iinfo(dtype)
        nodes = [helper.make_node("Cast", ["x"], ["m"], to=getattr(TensorProto, through)),
                 helper.make_node("Cast", ["m"], ["y"], to=TensorProto.INT64)]
        check(nodes, {"x": np.array([info.max, info.max - 5, 37, 1, info.min], dtype)}, ["y"])


def test_a_product_of_two_lines():
    check([helper.make_node("Einsum", ["a", "b"], ["y"], equation="i,i")],
          {"a": random(5), "b": random(5, seed=1)}, ["y"])


def test_products_of_constants_wrap():
    big = np.array([2**62 + 5, -(2**63), 7])
    for name in ("Mul", "Sub"):
        check([helper.make_node(name, ["a", "b"], ["y"])], {"a": np.array([-4, 3, 2]), "b": big},
              ["y"], constants=("a", "b"))
    check([helper.make_node("Neg", ["b"], ["y"])], {"b": big}, ["y"], constants=("b",))
