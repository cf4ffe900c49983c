"""The registry of model formats, and `import_model`, which picks one and reads."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from bessemer.core.errors import ModelFormatError, SettingsError, ShapeError
from bessemer.core.registry import Registry
from bessemer.core.shapes import Dim
from bessemer.ir.graph import Graph
from bessemer.ir.inference import infer_again
from bessemer.ir.types import TensorType, ValueType

Shapes = Mapping[str, int | Sequence[int]]
"""Extents fixed by the user: of a symbol (`{"N": 4}`) or of a whole input (`{"x": (4, 3)}`)."""

FALLBACKS = ("onnxruntime",)
"""The runtimes that can compute what Bessemer cannot."""


@dataclass(frozen=True)
class Fallback:
    """What of a model may go to another runtime.

    `runtimes` are tried in order; without any, a node that Bessemer cannot run is an error. `nodes`
    are patterns (`*` and `?`) of names of nodes that shall go there although Bessemer could.
    Raises: SettingsError for an unknown runtime, or nodes without a runtime.
    """

    runtimes: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.runtimes:
            if name not in FALLBACKS:
                why = "; torch runs no ONNX operators" if name == "torch" else ""
                raise SettingsError(f"allow_fallback: {name!r} is not available{why}; choose from "
                                    f"{', '.join(FALLBACKS)}")
        if self.nodes and not self.runtimes:
            raise SettingsError("fallback_nodes are given, but no runtime to run them: add "
                                "allow_fallback=['onnxruntime']")


NO_FALLBACK = Fallback()


class ModelFormat:
    """One model format. Subclasses are registered with `@model_format`."""

    name: ClassVar[str] = ""
    suffixes: ClassVar[tuple[str, ...]] = ()

    def detect(self, head: bytes) -> bool:
        """True if a file that starts with these bytes (up to 512) looks like this format."""
        raise NotImplementedError

    def accepts(self, model: object) -> bool:
        """True if `model` is an in-memory model of this format."""
        return False

    # `model` may be an object of any library, which only the format itself knows.
    def read(self, model: Any, shapes: Shapes | None = None,
             fallback: Fallback = NO_FALLBACK, keep_inputs: Collection[str] = ()) -> Graph:
        """The graph of a path, bytes, or an object that the format accepts.

        Raises: ModelFormatError, UnsupportedOperatorError, ShapeError.
        """
        raise NotImplementedError


FORMATS: Registry[ModelFormat] = Registry("model format", "bessemer.frontends", ModelFormatError)

F = TypeVar("F", bound=type[ModelFormat])


def model_format(name: str, *, suffixes: tuple[str, ...]) -> Callable[[F], F]:
    """Registers a format class under that name for files with those suffixes."""

    def decorate(cls: F) -> F:
        cls.name = name
        cls.suffixes = suffixes
        FORMATS.add(name, cls())
        return cls

    return decorate


# The model may be an object of a library that is not imported here.
def import_model(model: Any, *, shapes: Shapes | None = None,
                 fallback: Fallback = NO_FALLBACK, keep_inputs: Collection[str] = ()) -> Graph:
    """The graph of a model: a path, the bytes of a file, a ModelProto, or a Graph (returned as is).

    `shapes` fixes symbolic dimensions: by symbol name, or by input name with a whole shape.
    `fallback` says what may be left to another runtime. `keep_inputs` are constants of the model
    that shall be inputs instead, whose values each run gives.
    Raises: ModelFormatError, UnsupportedOperatorError or ShapeError, saying where and what to do.
    """
    if isinstance(model, Graph):
        if keep_inputs:
            raise SettingsError("keep_inputs is for model files; a Graph has its inputs already")
        return specialize(model, shapes) if shapes else model
    if isinstance(model, (str, Path)):
        path = Path(model)
        return format_of_file(path).read(path, shapes, fallback, keep_inputs)
    if isinstance(model, (bytes, bytearray, memoryview)):
        data = bytes(model)
        known = _format_of_head(data[:512], f"{len(data)} bytes")
        return known.read(data, shapes, fallback, keep_inputs)
    for name in FORMATS.names():
        found = FORMATS.get(name)
        if found.accepts(model):
            return found.read(model, shapes, fallback, keep_inputs)
    raise ModelFormatError(
        f"cannot import an object of type {type(model).__name__}; give a file path, the bytes of a "
        f"model file, an onnx.ModelProto or a bessemer Graph"
    )


def format_of_file(path: Path) -> ModelFormat:
    """The format of a file, by its suffix, else by its first bytes.

    Raises: ModelFormatError if there is no such file, it cannot be read, or its format is unknown.
    """
    head = read_head(path)
    for name in FORMATS.names():
        if path.suffix.lower() in FORMATS.get(name).suffixes:
            return FORMATS.get(name)
    return _format_of_head(head, str(path))


def read_head(path: Path, count: int = 512) -> bytes:
    """The first bytes of a model file. Raises ModelFormatError saying why there are none."""
    try:
        if path.is_dir():
            raise ModelFormatError(f"{path}: is a directory; give the model file inside it")
        with path.open("rb") as file:
            head = file.read(count)
    except FileNotFoundError as error:
        raise ModelFormatError(f"{path}: no such file; check the path") from error
    except PermissionError as error:
        raise ModelFormatError(
            f"{path}: permission denied; make the file readable for this user"
        ) from error
    except (OSError, ValueError) as error:
        raise ModelFormatError(f"{path}: cannot be read: {error}") from error
    if not head:
        raise ModelFormatError(f"{path}: the file is empty; export or download the model again")
    return head


def _format_of_head(head: bytes, where: str) -> ModelFormat:
    if not head:
        raise ModelFormatError(f"{where}: there is no data; export or download the model again")
    for name in FORMATS.names():
        if FORMATS.get(name).detect(head):
            return FORMATS.get(name)
    known = ", ".join(
        f"{name} ({', '.join(FORMATS.get(name).suffixes)})" for name in FORMATS.names()
    )
    raise ModelFormatError(f"{where}: is no model of a known format; known are: {known}")


def specialize(graph: Graph, shapes: Shapes) -> Graph:
    """A copy of the graph with symbols fixed and all types inferred again.

    Raises: ModelFormatError if a shape does not fit an input.
    """
    return substitute_symbols(graph, symbol_values(graph, shapes))


def substitute_symbols(
    graph: Graph, values: Mapping[str, Dim], optional: bool = False
) -> Graph:
    """A copy of the graph, and of the bodies in it, with those symbols replaced.

    `optional` says that the graph may never run with these shapes (a branch of If): where they do
    not fit, the types stay as they were.
    """
    result = graph.clone()
    for value in result.values():
        value.type = _substituted(value.type, values)
    for node in result.nodes:
        may_skip = optional or node.op.op_name == "If"
        bodies = {
            name: substitute_symbols(body, values, may_skip)
            for name, body in node.op.subgraphs().items()
        }
        if bodies:
            node.op = replace(node.op, **bodies)  # type: ignore[type-var]
        try:
            infer_again(node, result.source)
        except ShapeError:
            if not optional:
                raise
    return result


def _substituted(known: ValueType, values: Mapping[str, Dim]) -> ValueType:
    if isinstance(known, TensorType):
        return known.subs(values)
    if known.element is None:
        return known
    return replace(known, element=_substituted(known.element, values))


def symbol_values(graph: Graph, shapes: Shapes) -> dict[str, Dim]:
    """What each symbol is, from extents given by symbol or by input name.

    Raises: ModelFormatError if a given shape contradicts an input's.
    """
    values: dict[str, Dim] = {k: v for k, v in shapes.items() if isinstance(v, int)}
    for value in graph.inputs:
        given = shapes.get(value.name)
        if given is None or isinstance(given, int):
            continue
        declared = getattr(value.type, "shape", None)
        if declared is None:
            continue
        if len(declared) != len(given):
            raise ModelFormatError(
                f"input {value.name!r} is {value.type}, but shapes gives it {tuple(given)}; "
                "give one extent per dimension"
            )
        for dim, extent in zip(declared, given, strict=True):
            if isinstance(dim, int) and dim != extent:
                raise ModelFormatError(
                    f"input {value.name!r} is {value.type}, but shapes gives it {tuple(given)}; "
                    "only symbolic dimensions can be fixed"
                )
            if not isinstance(dim, int) and len(dim.symbols()) == 1 and str(dim) in dim.symbols():
                values[str(dim)] = int(extent)
    return values
