"""Older forms of the ai.onnx.ml operators."""

from bessemer.core.errors import ModelFormatError
from bessemer.frontends.onnx.source import SourceNode, Writer
from bessemer.frontends.onnx.versions.table import EVERY, until
from bessemer.ir.types import MapType, TensorType


@until(1, "LabelEncoder", domain="ai.onnx.ml")
def label_encoder_pairs(node: SourceNode, writer: Writer) -> SourceNode:
    """classes_strings gave each text its position, both ways; today keys and values are listed."""
    classes = node.pop("classes_strings")
    if classes is None:
        raise ModelFormatError(f"{node.where}: LabelEncoder of opset 1 needs classes_strings")
    number, text = node.pop("default_int64", -1), node.pop("default_string", "_Unused")
    known = node.needed(0).type
    positions = tuple(range(len(classes)))
    if isinstance(known, TensorType) and known.dtype.kind == "string":
        node.attributes.update(keys_strings=classes, values_int64s=positions, default_int64=number)
    else:
        node.attributes.update(keys_int64s=positions, values_strings=classes, default_string=text)
    return node


@until(EVERY, "DictVectorizer", domain="ai.onnx.ml")
def dict_vectorizer_dtype(node: SourceNode, writer: Writer) -> SourceNode:
    """The element type of the result is that of the map's values, which a dict does not tell."""
    known = node.needed(0).type
    if isinstance(known, MapType) and isinstance(known.element, TensorType):
        node.attributes["dtype"] = known.element.dtype.name
    return node
