"""MNN, on a model converted by its own converter; high precision means f32."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bessemer.bench.contest.conversion import convert, find_program
from bessemer.bench.contest.task import Array, Loaded, Task, peer, single_threaded_copies
from bessemer.core.errors import MissingExtraError


@peer
class Mnn:
    """A module on the CPU backend."""

    name: ClassVar[str] = "mnn"

    def version(self) -> str:
        """The installed version."""
        return str(_package().version())

    def prepare(self, task: Task) -> None:
        """Converts the model."""
        target = _file(task)
        if task.is_current(target):
            return
        convert([find_program("mnnconvert"), "-f", "ONNX", "--modelFile", task.model, "--MNNModel",
                 target, "--bizCode", "bench"], target, task.folder)

    def load(self, task: Task) -> Loaded:
        """The module with inputs made once; reading the result forces the lazy run."""
        package = _package()
        functions = package.expr
        manager = package.nn.create_runtime_manager(({
            "backend": "CPU", "numThread": task.threads, "precision": "high", "power": "high"},))
        module = package.nn.load_module_from_file(
            str(_file(task)), list(task.inputs), list(task.outputs), runtime_manager=manager)
        variables = []
        for array in task.inputs.values():
            narrow = array.astype(np.int32) if array.dtype == np.int64 else array
            kind = functions.int if narrow.dtype == np.int32 else functions.float
            variables.append(functions.const(narrow, list(array.shape), functions.NCHW, kind))
        last: list[Any] = []

        def run() -> None:
            found = module.forward(variables)
            last[:] = found if isinstance(found, list | tuple) else [found]
            for each in last:
                each.read()

        def outputs() -> list[Array]:
            return [np.array(each.read()) for each in last]

        # The module uses the manager but does not keep it alive.
        return Loaded(run, outputs, keep=(task, manager))

    def load_streams(self, task: Task) -> Loaded:
        """A copy for each stream."""
        return single_threaded_copies(self, task)


def _file(task: Task) -> Path:
    return task.file(".mnn")


def _package() -> Any:  # Any: it has no types
    try:
        import MNN
    except ImportError as error:
        raise MissingExtraError("MNN is not installed; install it with: pip install MNN") from error
    return MNN
