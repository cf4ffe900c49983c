"""Other runtimes behind one small interface, so that they can be compared with."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx

from bessemer.core.errors import MissingExtraError, ModelFormatError, SettingsError

Array = np.ndarray[Any, Any]


class Rival(Protocol):
    """A loaded model of another runtime."""

    name: str
    version: str

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name."""


@dataclass
class OnnxRuntime:
    """ONNX Runtime on the CPU with all its optimisations."""

    session: Any  # onnxruntime has no types
    version: str
    name: str = "onnxruntime"

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name."""
        results = self.session.run(None, dict(inputs))
        return dict(zip(self.output_names, results, strict=True))

    @property
    def output_names(self) -> list[str]:
        """The model's outputs in order."""
        return [output.name for output in self.session.get_outputs()]


def load_onnxruntime(
    model: str | Path, *, threads: int | None = None, extra_outputs: Sequence[str] | None = None
) -> OnnxRuntime:
    """Loads an ONNX file into ONNX Runtime; `extra_outputs` are tensors to return as well.

    Raises: MissingExtraError without the package; ModelFormatError if it refuses the model.
    """
    onnxruntime = _import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.inter_op_num_threads = 1
    if threads:
        options.intra_op_num_threads = threads
    source: str | bytes = str(model)
    if extra_outputs is not None:
        source = _with_outputs(Path(model), extra_outputs)
    try:
        session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except _session_errors() as error:
        raise ModelFormatError(f"{model}: onnxruntime refuses the model: {error}") from error
    return OnnxRuntime(session, onnxruntime.__version__)


def _import_onnxruntime() -> Any:  # Any: it has no types
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError(
            "onnxruntime is not installed; install it with: pip install 'bessemer[bench]'"
        ) from error
    return onnxruntime


def _session_errors() -> tuple[type[Exception], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile",
             "NotImplemented", "RuntimeException", "NoModel")
    return tuple(getattr(state, name) for name in names if hasattr(state, name))


def _with_outputs(path: Path, names: Sequence[str]) -> bytes:
    model = onnx.load(str(path))
    present = {output.name for output in model.graph.output}
    produced = {name for node in model.graph.node for name in node.output if name}
    for name in names:
        if name in produced and name not in present:
            model.graph.output.append(onnx.ValueInfoProto(name=name))
    return bytes(model.SerializeToString())


RIVALS: dict[str, Callable[..., OnnxRuntime]] = {"onnxruntime": load_onnxruntime}


def load_rival(
    name: str, model: str | Path, *, threads: int | None = None,
    extra_outputs: Sequence[str] | None = None,
) -> OnnxRuntime:
    """The rival of that name with the model loaded. Raises: SettingsError for another name."""
    _check_name(name)
    return RIVALS[name](model, threads=threads, extra_outputs=extra_outputs)


def rival_version(name: str) -> str:
    """The installed version of a rival. Raises: SettingsError, MissingExtraError."""
    _check_name(name)
    return str(_import_onnxruntime().__version__)


def _check_name(name: str) -> None:
    if name not in RIVALS:
        raise SettingsError(f"unknown runtime {name!r}; known: {', '.join(RIVALS)}")
