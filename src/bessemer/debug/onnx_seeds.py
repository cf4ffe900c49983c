"""Small valid ONNX models that the fuzzer starts from, each with other features of the format."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]
Info = tuple[str, Sequence[int | str]]


def seed_models() -> dict[str, bytes]:
    """The serialised models by name; always the same bytes."""
    makers = (convolutional, attention, control_flow, quantized, with_function, first_opsets,
              typed_fields, shapes_computed)
    return {make.__name__: make().SerializeToString(deterministic=True) for make in makers}


# onnx has no types that mypy could check.
def _model(
    nodes: Sequence[Any], inputs: Sequence[Info], outputs: Sequence[Info],
    constants: dict[str, Array] | None = None, opset: int = 21, ir: int = 10,
    functions: Sequence[Any] = (), domains: Sequence[tuple[str, int]] = (),
) -> Any:
    def infos(values: Sequence[Info]) -> list[Any]:
        return [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in values]

    tensors = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    graph = helper.make_graph(list(nodes), "g", infos(inputs), infos(outputs), tensors)
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(*d) for d in domains)]
    made = helper.make_model(graph, opset_imports=imports, functions=list(functions))
    made.ir_version = ir
    return made


def _random(*shape: int) -> Array:
    size = int(np.prod(shape))
    return (np.arange(size, dtype=np.float32) * 0.37 % 1 - 0.5).reshape(shape)


def convolutional() -> Any:
    """Conv, BatchNormalization, Relu, MaxPool, Concat, Flatten, Gemm, Softmax."""
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1], name="conv"),
        helper.make_node("BatchNormalization", ["c", "b", "b", "b", "v"], ["n"], name="norm"),
        helper.make_node("Relu", ["n"], ["r"], name="relu"),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Concat", ["p", "p"], ["k"], axis=1),
        helper.make_node("Flatten", ["k"], ["f"]),
        helper.make_node("Gemm", ["f", "m"], ["g"], transB=1),
        helper.make_node("Softmax", ["g"], ["y"]),
    ]
    constants = {"w": _random(4, 2, 3, 3), "b": _random(4), "v": _random(4) + 1,
                 "m": _random(3, 32)}
    return _model(nodes, [("x", [1, 2, 4, 4])], [("y", [1, 3])], constants)


def attention() -> Any:
    """MatMul, Transpose, Softmax, LayerNormalization and a symbolic dimension."""
    nodes = [
        helper.make_node("MatMul", ["x", "q"], ["a"]),
        helper.make_node("MatMul", ["x", "k"], ["b"]),
        helper.make_node("Transpose", ["b"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["a", "t"], ["s"]),
        helper.make_node("Softmax", ["s"], ["p"], axis=-1),
        helper.make_node("MatMul", ["p", "x"], ["o"]),
        helper.make_node("Add", ["o", "x"], ["r"]),
        helper.make_node("LayerNormalization", ["r", "g"], ["y"], axis=-1),
    ]
    constants = {"q": _random(4, 4), "k": _random(4, 4), "g": _random(4)}
    return _model(nodes, [("x", ["N", 3, 4])], [("y", ["N", 3, 4])], constants)


def control_flow() -> Any:
    """An If and a Loop whose bodies take values from outside."""
    info = helper.make_tensor_value_info
    then = helper.make_graph([helper.make_node("Add", ["x", "w"], ["t"])], "then", [],
                             [info("t", TensorProto.FLOAT, [3])])
    other = helper.make_graph([helper.make_node("Neg", ["x"], ["e"])], "else", [],
                              [info("e", TensorProto.FLOAT, [3])])
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]),
         helper.make_node("Add", ["v", "x"], ["s"])],
        "body",
        [info("i", TensorProto.INT64, []), info("go", TensorProto.BOOL, []),
         info("v", TensorProto.FLOAT, [3])],
        [info("go_on", TensorProto.BOOL, []), info("s", TensorProto.FLOAT, [3])],
    )
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["c"]),
        helper.make_node("If", ["c"], ["d"], then_branch=then, else_branch=other),
        helper.make_node("Loop", ["n", "", "d"], ["y"], body=body),
    ]
    constants = {"w": _random(3), "zero": np.zeros((), np.float32), "n": np.array(3, np.int64)}
    return _model(nodes, [("x", [3])], [("y", [3])], constants)


def quantized() -> Any:
    """QuantizeLinear and DequantizeLinear around a MatMul."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "ws"], ["m"], axis=1),
        helper.make_node("MatMul", ["d", "m"], ["y"]),
    ]
    weight = np.arange(-6, 6, dtype=np.int8).reshape(4, 3)
    constants: dict[str, Array] = {
        "s": np.array(0.1, np.float32), "z": np.array(3, np.uint8), "w": weight,
        "ws": np.array([0.1, 0.2, 0.3], np.float32),
    }
    return _model(nodes, [("x", [2, 4])], [("y", [2, 3])], constants)


def with_function() -> Any:
    """A function of the model, called twice with an attribute."""
    leaky = helper.make_node("LeakyRelu", ["a"], ["b"])
    alpha = helper.make_attribute("alpha", 0.0)
    alpha.Clear()
    alpha.name, alpha.ref_attr_name, alpha.type = "alpha", "slope", 1
    leaky.attribute.append(alpha)
    function = helper.make_function("my", "Slope", ["a"], ["b"], [leaky],
                                    [helper.make_opsetid("", 21)], ["slope"])
    nodes = [helper.make_node("Slope", ["x"], ["t"], domain="my", slope=0.1),
             helper.make_node("Slope", ["t"], ["y"], domain="my")]
    return _model(nodes, [("x", [2, 3])], [("y", [2, 3])], functions=[function],
                  domains=[("my", 1)])


def first_opsets() -> Any:
    """Opset 6: broadcast along an axis, weights listed as inputs, attributes for inputs."""
    nodes = [
        helper.make_node("Add", ["x", "b"], ["a"], broadcast=1, axis=1),
        helper.make_node("Clip", ["a"], ["c"], min=-1.0, max=1.0),
        helper.make_node("Slice", ["c"], ["s"], starts=[0, 1], ends=[2, 3], axes=[0, 2]),
        helper.make_node("Pad", ["s"], ["p"], pads=[0, 0, 1, 0, 0, 1], value=2.0),
        helper.make_node("Softmax", ["p"], ["y"], axis=1),
    ]
    return _model(nodes, [("x", [2, 3, 4]), ("b", [3])], [("y", [2, 3, 4])], {"b": _random(3)},
                  opset=6, ir=3)


def typed_fields() -> Any:
    """Tensors in typed fields, a sparse Constant, casts."""
    made = _model(
        [
            helper.make_node("Constant", [], ["k"], value=helper.make_tensor(
                "k", TensorProto.FLOAT16, [3], [1.0, 2.0, 3.0])),
            helper.make_node("Cast", ["k"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Constant", [], ["s"], sparse_value=helper.make_sparse_tensor(
                numpy_helper.from_array(np.array([5], np.float32), "v"),
                numpy_helper.from_array(np.array([1], np.int64), "i"), [3])),
            helper.make_node("Mul", ["x", "f"], ["m"]),
            helper.make_node("Add", ["m", "s"], ["a"]),
            helper.make_node("Gather", ["a", "i"], ["y"]),
        ],
        [("x", [3])], [("y", [2])],
    )
    made.graph.initializer.append(helper.make_tensor("i", TensorProto.INT64, [2], [2, 0]))
    return made


def shapes_computed() -> Any:
    """Shape, Gather, Concat, Reshape, Expand, ConstantOfShape: shapes that follow from data."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Concat", ["n", "rest"], ["t"], axis=0),
        helper.make_node("Reshape", ["x", "t"], ["r"]),
        helper.make_node("ConstantOfShape", ["t2"], ["c"], value=helper.make_tensor(
            "v", TensorProto.FLOAT, [1], [2.0])),
        helper.make_node("Tile", ["c", "rep"], ["u"]),
        helper.make_node("Expand", ["u", "t3"], ["e"]),
        helper.make_node("Mul", ["r", "e"], ["y"]),
    ]
    constants = {"zero": np.array([0]), "rest": np.array([-1, 2]), "t2": np.array([1, 1]),
                 "rep": np.array([3, 1]), "t3": np.array([3, 2])}
    return _model(nodes, [("x", [2, 6])], [("y", [2, 3, 2])], constants)
