"""An ONNX graph as a PyTorch module: node by node, by the function that PyTorch has for each.

Only what the zoo's static networks use is known; other operators are refused by name.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bessemer.core.errors import MissingExtraError, UnsupportedOperatorError

Array = np.ndarray[Any, Any]
Attributes = dict[str, Any]
# Tensors and modules of torch are Any: torch is optional.
Step = Callable[..., Any]
# Gates of an LSTM: input, output, forget, cell in ONNX; input, forget, cell, output in torch.
_GATES = (0, 2, 3, 1)


def import_torch() -> Any:
    """PyTorch. Raises: MissingExtraError."""
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError(
            "torch is not installed; install it with: pip install torch") from error
    return torch


def torch_module(path: Path) -> Any:
    """The module of an ONNX file; it takes the inputs in order and gives a tuple.

    Raises: UnsupportedOperatorError naming the operator, MissingExtraError.
    """
    import onnx

    torch = import_torch()
    model = onnx.load(str(path))
    weights = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    inputs = [each.name for each in model.graph.input if each.name not in weights]
    outputs = [each.name for each in model.graph.output]
    makers = _makers(torch)
    module = torch.nn.Module()
    steps = []
    for number, node in enumerate(model.graph.node):
        if node.op_type not in makers:
            raise UnsupportedOperatorError(
                f"{path}: node {node.name!r}: the PyTorch reader does not know {node.op_type}")
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        constants = [weights.get(name) for name in node.input]
        step, left = makers[node.op_type](attributes, constants)
        if isinstance(step, torch.nn.Module):
            module.add_module(f"step{number}", step)
        steps.append((step, [name for k, name in enumerate(node.input) if k not in left],
                      list(node.output)))
    used = {name for _, names, _ in steps for name in names}
    places = {name: f"weight{number}" for number, name in enumerate(weights) if name in used}
    for name, place in places.items():
        module.register_buffer(place, torch.from_numpy(weights[name].copy()))

    def forward(*arguments: Any) -> tuple[Any, ...]:
        values = dict(zip(inputs, arguments, strict=True))
        values |= {name: getattr(module, place) for name, place in places.items()}
        for step, names, results in steps:
            found = step(*[values[name] if name else None for name in names])
            if not isinstance(found, tuple | list):
                found = (found,)
            values.update(zip(results, found, strict=False))
        return tuple(values[name] for name in outputs)

    module.forward = forward
    return module


def _makers(torch: Any) -> dict[str, Callable[[Attributes, list[Array | None]], Any]]:
    """For each operator what makes (step, inputs that the step has taken in)."""
    return {**_simple(torch), **_windows(torch), **_movement(torch), "LSTM": _lstm_of(torch)}


def _plain(step: Step) -> Callable[[Attributes, list[Array | None]], tuple[Step, set[int]]]:
    return lambda attributes, constants: (step, set())


def _simple(torch: Any) -> dict[str, Any]:
    functional = torch.nn.functional
    steps = {
        "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Div": torch.div, "Pow": torch.pow,
        "Sqrt": torch.sqrt, "Erf": torch.erf, "Tanh": torch.tanh, "Sigmoid": torch.sigmoid,
        "Relu": torch.relu, "MatMul": torch.matmul, "Equal": torch.eq, "Where": torch.where,
    }
    kinds = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool}

    def clip(attributes: Attributes, constants: list[Array | None]) -> tuple[Step, set[int]]:
        low, high = (None if c is None else float(c) for c in (*constants[1:], None, None)[:2])
        return (lambda x: torch.clamp(x, low, high)), {1, 2}

    def softmax(attributes: Attributes, constants: list[Array | None]) -> tuple[Step, set[int]]:
        return (lambda x: torch.softmax(x, attributes.get("axis", -1))), set()

    def mean(attributes: Attributes, constants: list[Array | None]) -> tuple[Step, set[int]]:
        axes, keep = list(attributes["axes"]), bool(attributes.get("keepdims", 1))
        return (lambda x: torch.mean(x, axes, keepdim=keep)), set()

    def cast(attributes: Attributes, constants: list[Array | None]) -> tuple[Step, set[int]]:
        kind = kinds[attributes["to"]]
        return (lambda x: x.to(kind)), set()

    def gemm(attributes: Attributes, constants: list[Array | None]) -> tuple[Step, set[int]]:
        if not attributes.get("transB"):
            return (lambda x, w, b=None: functional.linear(x, w.t(), b)), set()
        return functional.linear, set()

    def layer_norm(attributes: Attributes, constants: list[Array | None]
                   ) -> tuple[Step, set[int]]:
        epsilon = attributes.get("epsilon", 1e-5)
        return (lambda x, w, b: functional.layer_norm(x, w.shape, w, b, epsilon)), set()

    def batch_norm(attributes: Attributes, constants: list[Array | None]
                   ) -> tuple[Step, set[int]]:
        epsilon = attributes.get("epsilon", 1e-5)
        return (lambda x, w, b, mean, var: functional.batch_norm(
            x, mean, var, w, b, eps=epsilon)), set()

    makers = {"Clip": clip, "Softmax": softmax, "ReduceMean": mean, "Cast": cast, "Gemm": gemm,
              "LayerNormalization": layer_norm, "BatchNormalization": batch_norm}
    return {**{name: _plain(step) for name, step in steps.items()}, **makers}


def _windows(torch: Any) -> dict[str, Any]:
    functional = torch.nn.functional

    def padding(attributes: Attributes) -> list[int]:
        pads = list(attributes.get("pads", [0, 0, 0, 0]))
        if pads[: len(pads) // 2] != pads[len(pads) // 2 :]:
            raise UnsupportedOperatorError(f"the PyTorch reader knows no uneven pads {pads}")
        return pads[: len(pads) // 2]

    def conv(attributes: Attributes, constants: list[Array | None]) -> tuple[Step, set[int]]:
        options = {"stride": tuple(attributes.get("strides", (1, 1))),
                   "padding": tuple(padding(attributes)),
                   "dilation": tuple(attributes.get("dilations", (1, 1))),
                   "groups": attributes.get("group", 1)}
        return (lambda x, w, b=None: functional.conv2d(x, w, b, **options)), set()

    def transposed(attributes: Attributes, constants: list[Array | None]
                   ) -> tuple[Step, set[int]]:
        strides, pads = tuple(attributes.get("strides", (1, 1))), tuple(padding(attributes))
        return (lambda x, w, b=None: functional.conv_transpose2d(
            x, w, b, stride=strides, padding=pads)), set()

    def max_pool(attributes: Attributes, constants: list[Array | None]) -> tuple[Step, set[int]]:
        options = {"stride": tuple(attributes["strides"]), "padding": tuple(padding(attributes)),
                   "ceil_mode": bool(attributes.get("ceil_mode"))}
        kernel = tuple(attributes["kernel_shape"])
        return (lambda x: functional.max_pool2d(x, kernel, **options)), set()

    def avg_pool(attributes: Attributes, constants: list[Array | None]) -> tuple[Step, set[int]]:
        options = {"stride": tuple(attributes["strides"]), "padding": tuple(padding(attributes)),
                   "count_include_pad": bool(attributes.get("count_include_pad"))}
        kernel = tuple(attributes["kernel_shape"])
        return (lambda x: functional.avg_pool2d(x, kernel, **options)), set()

    def resize(attributes: Attributes, constants: list[Array | None]) -> tuple[Step, set[int]]:
        scales = constants[2] if len(constants) > 2 else None
        if attributes.get("mode") != b"nearest" or scales is None:
            raise UnsupportedOperatorError("the PyTorch reader resizes only by nearest and scales")
        factors = [float(each) for each in scales[2:]]
        return (lambda x: functional.interpolate(x, scale_factor=factors)), {1, 2}

    return {"Conv": conv, "ConvTranspose": transposed, "MaxPool": max_pool,
            "AveragePool": avg_pool, "Resize": resize,
            "GlobalAveragePool": _plain(lambda x: torch.mean(x, (2, 3), keepdim=True))}


def _integers(constant: Array | None, operator: str) -> list[int]:
    if constant is None:
        raise UnsupportedOperatorError(
            f"the PyTorch reader needs constant shapes and places for {operator}")
    return [int(each) for each in constant.reshape(-1)]


def _movement(torch: Any) -> dict[str, Any]:
    def reshape(attributes: Attributes, constants: list[Array | None]) -> tuple[Step, set[int]]:
        wanted = _integers(constants[1], "Reshape")
        return (lambda x: x.reshape([x.shape[k] if n == 0 else n
                                     for k, n in enumerate(wanted)])), {1}

    def part(attributes: Attributes, constants: list[Array | None]) -> tuple[Step, set[int]]:
        starts, ends, axes, *more = (_integers(each, "Slice") for each in constants[1:])
        steps = more[0] if more else [1] * len(starts)

        def run(x: Any) -> Any:
            places: list[Any] = [slice(None)] * x.dim()
            for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
                places[axis] = slice(start, min(end, x.shape[axis]), step)
            return x[tuple(places)]

        return run, {1, 2, 3, 4}

    def gather(attributes: Attributes, constants: list[Array | None]) -> tuple[Step, set[int]]:
        axis = attributes.get("axis", 0)
        if constants[1] is not None and constants[1].ndim == 0:
            index = int(constants[1])
            return (lambda x: x.select(axis, index)), {1}
        if axis == 0:
            return (lambda x, i: torch.nn.functional.embedding(i, x) if x.dim() == 2
                    else x[i]), set()
        return (lambda x, i: torch.index_select(x, axis, i)), set()

    def split(attributes: Attributes, constants: list[Array | None]) -> tuple[Step, set[int]]:
        sizes = _integers(constants[1], "Split")
        return (lambda x: torch.split(x, sizes, attributes.get("axis", 0))), {1}

    def squeeze(attributes: Attributes, constants: list[Array | None]) -> tuple[Step, set[int]]:
        axes = _integers(constants[1], "Squeeze")
        return (lambda x: torch.squeeze(x, tuple(axes))), {1}

    def unsqueeze(attributes: Attributes, constants: list[Array | None]
                  ) -> tuple[Step, set[int]]:
        axes = sorted(_integers(constants[1], "Unsqueeze"))

        def run(x: Any) -> Any:
            for axis in axes:
                x = torch.unsqueeze(x, axis)
            return x

        return run, {1}

    def concat(attributes: Attributes, constants: list[Array | None]) -> tuple[Step, set[int]]:
        return (lambda *parts: torch.cat(parts, attributes["axis"])), set()

    def transpose(attributes: Attributes, constants: list[Array | None]
                  ) -> tuple[Step, set[int]]:
        return (lambda x: x.permute(*attributes["perm"])), set()

    def flatten(attributes: Attributes, constants: list[Array | None]) -> tuple[Step, set[int]]:
        return (lambda x: torch.flatten(x, attributes.get("axis", 1))), set()

    def expand(attributes: Attributes, constants: list[Array | None]) -> tuple[Step, set[int]]:
        wanted = _integers(constants[1], "Expand")
        return (lambda x: x.expand(torch.broadcast_shapes(x.shape, tuple(wanted)))), {1}

    return {"Reshape": reshape, "Slice": part, "Gather": gather, "Split": split,
            "Squeeze": squeeze, "Unsqueeze": unsqueeze, "Concat": concat, "Transpose": transpose,
            "Flatten": flatten, "Expand": expand}


def _gates(array: Array, size: int) -> Array:
    """Blocks of `size` rows in torch's order of gates."""
    return np.concatenate([array[k * size : (k + 1) * size] for k in _GATES])


def _lstm_of(torch: Any) -> Callable[[Attributes, Sequence[Array | None]], tuple[Any, set[int]]]:
    def lstm(attributes: Attributes, constants: Sequence[Array | None]) -> tuple[Any, set[int]]:
        size, both = attributes["hidden_size"], attributes.get("direction") == b"bidirectional"
        weights = list(constants[1:4])
        if len(constants) > 4 or any(each is None for each in weights):
            raise UnsupportedOperatorError("the PyTorch reader knows LSTM only with constant "
                                           "weights and no initial state")
        w, r, b = (each for each in weights if each is not None)
        inner = torch.nn.LSTM(w.shape[2], size, bidirectional=both)
        for direction in range(2 if both else 1):
            suffix = "_reverse" if direction else ""
            parts = {"weight_ih": w[direction], "weight_hh": r[direction],
                     "bias_ih": b[direction][: 4 * size], "bias_hh": b[direction][4 * size :]}
            for name, array in parts.items():
                parameter = getattr(inner, f"{name}_l0{suffix}")
                parameter.data.copy_(torch.from_numpy(_gates(array, size)))

        class Lstm(torch.nn.Module):  # type: ignore[misc, name-defined]
            """Results as ONNX arranges them: [steps, directions, batch, size]."""

            def __init__(self) -> None:
                super().__init__()
                self.inner = inner

            def forward(self, x: Any) -> Any:
                y, (h, c) = self.inner(x)
                directions = y.shape[2] // size
                shape = (y.shape[0], y.shape[1], directions, size)
                return y.reshape(shape).permute(0, 2, 1, 3), h, c

        return Lstm().eval(), {1, 2, 3}

    return lstm
