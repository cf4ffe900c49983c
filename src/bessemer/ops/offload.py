"""Offload: a part of the model that another runtime computes. It runs on the host."""

import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from bessemer.core.dtypes import DTYPES
from bessemer.core.errors import (
    ExecutionError,
    MissingExtraError,
    ShapeError,
    UnsupportedOperatorError,
)
from bessemer.core.shapes import Dim
from bessemer.ir.graph import Graph
from bessemer.ir.operator import Operator, operator, sample
from bessemer.ir.types import OptionalType, SequenceType, TensorType, ValueType
from bessemer.ops.dims import fresh_dim

_TYPES = {
    "float": "f32", "double": "f64", "float16": "f16", "bool": "bool", "string": "string",
    **{f"{sign}int{bits}": f"{sign[:1] or 'i'}{bits}" for sign in ("u", "")
       for bits in (8, 16, 32, 64)},
}  # fmt: skip
"""Element types that can be handed over, as ONNX Runtime writes them, and as we do."""
OFFLOADED_DTYPES = frozenset(_TYPES.values())


def _field(number: int, content: bytes | int) -> bytes:
    """One field of a protobuf message shorter than 128 bytes."""
    if isinstance(content, int):
        return bytes([number << 3, content])
    return bytes([number << 3 | 2, len(content)]) + content


def _negation() -> np.ndarray[Any, Any]:
    """The bytes of an ONNX file with y = Neg(x), f32 [N, 3], for the sample."""
    shape = _field(1, _field(2, b"N")) + _field(1, _field(1, 3))
    info = _field(2, _field(1, _field(1, 1) + _field(2, shape)))
    node = _field(1, b"x") + _field(2, b"y") + _field(4, b"Neg")
    graph = (
        _field(1, node)
        + _field(2, b"g")
        + _field(11, _field(1, b"x") + info)
        + _field(12, _field(1, b"y") + info)
    )
    model = _field(1, 8) + _field(7, graph) + _field(8, _field(2, 13))
    return np.frombuffer(model, np.uint8)


@operator("bessemer.Offload")
class Offload(Operator):
    """(y0, y1 ...) = the results of an ONNX model run by ONNX Runtime.

    Shapes: model u8 [bytes], the constant bytes of the ONNX file; then its inputs in order.
    `nodes` says which nodes of the source model it holds. `dims` are the dimensions of its inputs
    as its file names them, `ranks` the ranks of its results, None where unknown. `version` is that
    of the ONNX Runtime that it was built with.
    """

    nodes: tuple[str, ...] = ()
    dims: tuple[tuple[int | str, ...] | None, ...] = ()
    ranks: tuple[int | None, ...] = ()
    version: str = ""

    deterministic = False  # it may hold anything

    def infer(self, model: TensorType, *inputs: ValueType) -> tuple[ValueType, ...]:
        if model.value is None:
            raise ShapeError("the model of an Offload must be a constant")
        extents = self._extents(inputs)
        fixed = tuple((text, dim) for text, dim in extents.items() if isinstance(dim, int))
        results = _results(model.value.tobytes(), fixed, self.version, self.nodes)
        return tuple(
            _type(text, shape, rank, extents, self, k)
            for k, ((text, shape), rank) in enumerate(zip(results, self.ranks, strict=True))
        )

    def reference(self, model: np.ndarray[Any, Any], *inputs: Any) -> tuple[Any, ...]:
        session = self.__dict__.get("_session")
        if session is None:
            session = open_session(
                model.tobytes(), self.version, self.nodes, threads=self.__dict__.get("_threads")
            )
            self.__dict__["_session"] = session
        names = [item.name for item in session.get_inputs()]
        try:
            return tuple(session.run(None, dict(zip(names, inputs, strict=True))))
        except _errors() as error:
            raise ExecutionError(
                f"onnxruntime failed in {', '.join(self.nodes)}: {error}"
            ) from error

    def prepare(self, threads: int) -> None:
        """Checks that the runtime is there; sessions are made with that many threads."""
        import_onnxruntime(self.version, self.nodes)
        self.__dict__["_threads"] = threads

    def _extents(self, inputs: tuple[ValueType, ...]) -> dict[str, Dim]:
        """What each dimension that the model names is, by the types of its inputs."""
        extents: dict[str, Dim] = {}
        for names, known in zip(self.dims, inputs, strict=True):
            if names is None or not isinstance(known, TensorType) or known.shape is None:
                continue
            if len(names) != len(known.shape):
                raise ShapeError(f"the offloaded model was made for {list(names)}, got {known}")
            for name, dim in zip(names, known.shape, strict=True):
                if isinstance(name, str):
                    extents.setdefault(name, dim)
        return extents

    samples = (
        sample(
            _negation(),
            "f32[2,3]",
            nodes=("neg (Neg)",),
            dims=(("N", 3),),
            ranks=(2,),
            skip="" if importlib.util.find_spec("onnxruntime") else "needs onnxruntime",
        ),
    )


def offloads_of(graph: Graph) -> Iterator[Offload]:
    """The offloads of a graph and of the bodies in it."""
    for node in graph.nodes:
        if isinstance(node.op, Offload):
            yield node.op
        for body in node.op.subgraphs().values():
            yield from offloads_of(body)


def import_onnxruntime(version: str = "", nodes: tuple[str, ...] = ()) -> Any:  # it has no types
    """ONNX Runtime. Raises: MissingExtraError saying what needs it, and which version was used."""
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        what = f"; it computes {', '.join(nodes)}" if nodes else ""
        wanted = f" (the engine was built with {version})" if version else ""
        raise MissingExtraError(
            f"onnxruntime is not installed{what}; install it with: pip install "
            f"'bessemer[bench]'{wanted}"
        ) from error


def open_session(
    model: bytes,
    version: str,
    nodes: tuple[str, ...],
    *,
    threads: int | None = None,
    fixed: tuple[tuple[str, int], ...] = (),
    optimise: bool = True,
) -> Any:  # it has no types
    """A session over the bytes of an ONNX file.

    `fixed` are extents of named dimensions; `optimise` False is for looking at types only.
    Raises: MissingExtraError; UnsupportedOperatorError if ONNX Runtime refuses the model.
    """
    runtime = import_onnxruntime(version, nodes)
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.inter_op_num_threads = 1
    # Its threads must not spin on cores that the kernels behind it need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if threads:
        options.intra_op_num_threads = threads
    if not optimise:
        options.intra_op_num_threads = 1
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    for name, extent in fixed:
        options.add_free_dimension_override_by_name(name, extent)
    try:
        return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except _errors() as error:
        here = runtime.__version__
        older = (
            f"; the engine was built with {version}, install that or a newer one"
            if version not in ("", here)
            else ""
        )
        raise UnsupportedOperatorError(
            f"onnxruntime {here} cannot run {', '.join(nodes)}{older}: {error}"
        ) from error


@lru_cache(maxsize=64)
def _results(
    model: bytes, fixed: tuple[tuple[str, int], ...], version: str, nodes: tuple[str, ...]
) -> tuple[tuple[str, tuple[int | str | None, ...]], ...]:
    """Type text and shape of each result; ONNX Runtime gives () for a shape it does not know."""
    session = open_session(model, version, nodes, fixed=fixed, optimise=False)
    return tuple((item.type, tuple(item.shape or ())) for item in session.get_outputs())


def _errors() -> tuple[type[Exception], ...]:
    state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    names = (
        "Fail",
        "InvalidArgument",
        "InvalidGraph",
        "InvalidProtobuf",
        "NoSuchFile",
        "NotImplemented",
        "RuntimeException",
        "NoModel",
        "EPFail",
    )
    found = (getattr(state, name, None) for name in names)
    return (*(cls for cls in found if cls is not None), ValueError, TypeError, RuntimeError)


def _type(
    text: str,
    shape: tuple[int | str | None, ...],
    rank: int | None,
    extents: Mapping[str, Dim],
    op: Operator,
    position: int,
) -> ValueType:
    kind, _, inner = text.removesuffix(")").partition("(")
    if kind == "seq":
        return SequenceType(_type(inner, (), None, extents, op, position))
    if kind == "optional":
        return OptionalType(_type(inner, (), None, extents, op, position))
    if kind != "tensor" or inner not in _TYPES:
        raise UnsupportedOperatorError(
            f"onnxruntime gives a {text}, which cannot be handed over; offload the nodes behind "
            "it as well"
        )
    dtype = DTYPES[_TYPES[inner]]
    if rank is None or len(shape) != rank:
        return TensorType(dtype, None)
    dims = [
        dim
        if isinstance(dim, int) and dim >= 0
        else extents[dim]
        if isinstance(dim, str) and dim in extents
        else fresh_dim(op, 64 * position + axis)
        for axis, dim in enumerate(shape)
    ]
    return TensorType(dtype, tuple(dims))
