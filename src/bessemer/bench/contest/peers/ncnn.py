"""ncnn, on a model converted by pnnx; f32 all the way, because this compares f32."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bessemer.bench.contest.conversion import convert, find_program
from bessemer.bench.contest.task import Array, Loaded, Task, peer, single_threaded_copies
from bessemer.core.errors import MissingExtraError, UnsupportedOperatorError

# Layers that pnnx writes for what ncnn has no layer for contain these.
_FOREIGN = (".", "pnnx", "aten", "prim", "F_", "Tensor")


@peer
class Ncnn:
    """One extractor per run, as its interface wants it; batch 1 only."""

    name: ClassVar[str] = "ncnn"

    def version(self) -> str:
        """The installed version."""
        return str(_package().__version__)

    def prepare(self, task: Task) -> None:
        """Converts the model by pnnx, which writes its files beside its input."""
        if task.is_current(_network(task)):
            return
        program = find_program("pnnx")
        folder = task.file(".ncnn")
        folder.mkdir(exist_ok=True)
        source = folder / "model.onnx"
        source.write_bytes(task.model.read_bytes())
        shapes = ",".join(
            "[" + ",".join(map(str, array.shape)) + "]" + ("i64" if array.dtype.kind == "i"
                                                            else "f32")
            for array in task.inputs.values()
        )
        convert([program, source, f"inputshape={shapes}", "fp16=0"], _network(task), folder)
        source.unlink()

    def load(self, task: Task) -> Loaded:
        """A network on the task's threads."""
        if any(array.ndim and array.shape[0] != 1 for array in task.inputs.values()):
            raise UnsupportedOperatorError(
                f"{task.model}: ncnn takes one sample: the first extent of each input must be 1")
        package, path = _package(), _network(task)
        _check_layers(path)
        network = package.Net()
        network.opt.num_threads = task.threads
        for option in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
            setattr(network.opt, f"use_{option}", False)
        if network.load_param(str(path)) or network.load_model(str(path.with_suffix(".bin"))):
            raise UnsupportedOperatorError(f"{path}: ncnn refuses the converted model")
        arrays = [np.ascontiguousarray(_narrow(array)[0]) for array in task.inputs.values()]
        places = [package.Mat(array) for array in arrays]
        names, result = list(network.input_names()), next(iter(network.output_names()))
        last: list[Any] = []

        def run() -> None:
            extractor = network.create_extractor()
            for name, place in zip(names, places, strict=True):
                extractor.input(name, place)
            _, found = extractor.extract(result)
            last[:] = [found]

        def outputs() -> list[Array]:
            return [np.array(each)[None] for each in last]

        return Loaded(run, outputs, keep=(arrays, network))

    def load_streams(self, task: Task) -> Loaded:
        """A copy for each stream."""
        return single_threaded_copies(self, task)


def _network(task: Task) -> Path:
    return task.file(".ncnn") / "model.ncnn.param"


def _narrow(array: Array) -> Array:
    return array.astype(np.int32) if array.dtype == np.int64 else array


def _check_layers(path: Path) -> None:
    kinds = {line.split()[0] for line in path.read_text().splitlines()[2:] if line.strip()}
    foreign = sorted(kind for kind in kinds if any(mark in kind for mark in _FOREIGN))
    if foreign:
        raise UnsupportedOperatorError(f"{path}: ncnn has no layer for {', '.join(foreign)}")


def _package() -> Any:  # Any: it has no types
    try:
        import ncnn
    except ImportError as error:
        raise MissingExtraError(
            "ncnn is not installed; install it with: pip install ncnn pnnx") from error
    return ncnn
