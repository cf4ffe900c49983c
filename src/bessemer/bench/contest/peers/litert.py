"""LiteRT (formerly TensorFlow Lite) with XNNPACK, on a model converted from PyTorch."""

from pathlib import Path
from typing import Any, ClassVar

from bessemer.bench.contest.task import Array, Loaded, Task, peer, single_threaded_copies
from bessemer.bench.contest.torch_model import import_torch, torch_module
from bessemer.core.errors import MissingExtraError


@peer
class LiteRt:
    """The interpreter; XNNPACK is its default."""

    name: ClassVar[str] = "litert"

    def version(self) -> str:
        """The installed version."""
        from importlib.metadata import version

        _package()
        return version("ai-edge-litert")

    def prepare(self, task: Task) -> None:
        """Converts through PyTorch, the only road to its format that needs no TensorFlow."""
        try:
            import litert_torch
        except ImportError as error:
            raise MissingExtraError(
                "litert-torch is not installed; install it with: pip install litert-torch"
            ) from error
        if task.is_current(_file(task)):
            return
        torch = import_torch()
        arguments = tuple(torch.from_numpy(array) for array in task.inputs.values())
        litert_torch.convert(torch_module(task.model).eval(), arguments).export(str(_file(task)))

    def load(self, task: Task) -> Loaded:
        """An interpreter with its tensors set once."""
        interpreter = _package().Interpreter(str(_file(task)), num_threads=task.threads)
        interpreter.allocate_tensors()
        # The converter names inputs in order: args_0, args_1 ...
        places = sorted(interpreter.get_input_details(), key=lambda each: str(each["name"]))
        for place, array in zip(places, task.inputs.values(), strict=True):
            interpreter.set_tensor(place["index"], array.astype(place["dtype"]))
        results = [each["index"] for each in interpreter.get_output_details()]

        def outputs() -> list[Array]:
            return [interpreter.get_tensor(index) for index in results]

        return Loaded(interpreter.invoke, outputs)

    def load_streams(self, task: Task) -> Loaded:
        """A copy for each stream."""
        return single_threaded_copies(self, task)


def _file(task: Task) -> Path:
    return task.file(".tflite")


def _package() -> Any:  # Any: it has no types
    try:
        from ai_edge_litert import interpreter
    except ImportError as error:
        raise MissingExtraError(
            "ai-edge-litert is not installed; install it with: pip install ai-edge-litert"
        ) from error
    return interpreter
