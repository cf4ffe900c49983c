"""Shortens a model that disagrees: fewer outputs, and nodes cut away from both ends."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from bessemer.core.errors import BessemerError
from bessemer.debug.random_graphs.data import Array
from bessemer.debug.random_graphs.oracles import pruned, reference_values, without_nodes
from bessemer.ir.interpreter import REFERENCE_ERRORS

Model = tuple[Any, dict[str, Array]]
RANDOM = frozenset(["RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
                    "Bernoulli", "Multinomial", "Dropout"])
"""Operators of which two runs may give different numbers."""
StillWrong = Callable[[Any, Mapping[str, Array]], bool]


def minimise(model: Any, inputs: Mapping[str, Array], output: str, wrong: StillWrong,
             most_trials: int = 80) -> Model:
    """The shortest model found that is still wrong in the same way.

    First only the wrong output is kept, or another value of the graph if that is wrong already;
    then one node after the other is replaced by inputs with the reference's data.
    """
    best: Model = (model, dict(inputs))
    trials = 0

    def attempt(candidate: Model) -> bool:
        nonlocal best, trials
        if trials >= most_trials or not candidate[0].graph.output or not candidate[0].graph.node:
            return False
        trials += 1
        if not wrong(*candidate):
            return False
        best = candidate
        return True

    if output:
        attempt(with_output(*best, output))
    attempt(static(*best))
    try:
        _, values = reference_values(*best)
    except (BessemerError, *REFERENCE_ERRORS):
        values = {}
    for info in list(best[0].graph.output):
        if len(best[0].graph.output) > 1:
            attempt(without_output(*best, info.name))
    changed = True
    while changed and trials < most_trials:
        changed = False
        for node in list(best[0].graph.node):
            known = all(isinstance(values.get(n), np.ndarray) for n in node.output if n)
            if known and len(best[0].graph.node) > 1:
                changed |= attempt(without_nodes(best[0], [node.name], best[1], values))
        for node in list(best[0].graph.node):
            # The value before the last one may be wrong already.
            for name in node.input:
                made = any(name in other.output for other in best[0].graph.node)
                fixed = isinstance(values.get(name), np.ndarray)
                if made and fixed and not is_random(best[0], name):
                    changed |= attempt(with_output(*best, name))
                    break
    return best


def is_random(model: Any, name: str) -> bool:
    """True if a value depends on a random operator."""
    for node in model.graph.node:
        if name in node.output:
            return node.op_type in RANDOM or any(is_random(model, item) for item in node.input)
    return False


def with_output(model: Any, inputs: Mapping[str, Array], name: str) -> Model:
    """The model with one value as its only output."""
    result = onnx.ModelProto.FromString(model.SerializeToString())
    known = [info for info in result.graph.output if info.name == name]
    kept = onnx.ValueInfoProto.FromString(known[0].SerializeToString()) if known else None
    del result.graph.output[:]
    result.graph.output.append(kept if kept is not None else onnx.ValueInfoProto(name=name))
    return pruned(result, dict(inputs))


def without_output(model: Any, inputs: Mapping[str, Array], name: str) -> Model:
    """The model with one output less."""
    result = onnx.ModelProto.FromString(model.SerializeToString())
    for info in list(result.graph.output):
        if info.name == name:
            result.graph.output.remove(info)
    return pruned(result, dict(inputs))


def static(model: Any, inputs: Mapping[str, Array]) -> Model:
    """The model with the extents of its data instead of symbols."""
    result = onnx.ModelProto.FromString(model.SerializeToString())
    for info in result.graph.input:
        for dim, extent in zip(info.type.tensor_type.shape.dim, inputs[info.name].shape,
                               strict=True):
            dim.dim_value = extent
    return result, dict(inputs)


def describe(model: Any, inputs: Mapping[str, Array]) -> str:
    """The model as text: inputs, constants and nodes, one line each."""
    lines = [f"opset {model.opset_import[0].version}"]
    lines += [f"  input {i.name}: {inputs[i.name].dtype}{list(inputs[i.name].shape)} "
              + ",".join(d.dim_param or str(d.dim_value) for d in i.type.tensor_type.shape.dim)
              + (f" = {inputs[i.name].tolist()}" if inputs[i.name].size <= 24 else "")
              for i in model.graph.input]
    for tensor in model.graph.initializer:
        data = numpy_helper.to_array(tensor)
        shown = f" = {data.tolist()}" if data.size <= 24 else ""
        lines.append(f"  constant {tensor.name}: {data.dtype}{list(data.shape)}{shown}")
    for node in model.graph.node:
        attributes = ", ".join(
            f"{a.name}={onnx.helper.get_attribute_value(a) if not a.HasField('g') else '{...}'}"
            for a in node.attribute)
        lines.append(f"  {', '.join(node.output)} = {node.op_type}({', '.join(node.input)}) "
                     f"{attributes}")
    lines.append("  output " + ", ".join(i.name for i in model.graph.output))
    return "\n".join(lines)
