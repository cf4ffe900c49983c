"""PyTorch: operator by operator ("eager"), and compiled by Inductor."""

import time
from collections.abc import Callable
from typing import Any, ClassVar

from bessemer.bench.contest.task import Loaded, Task, peer, single_threaded_copies
from bessemer.bench.contest.torch_model import import_torch, torch_module

_TRIALS = 3


@peer
class Eager:
    """The faster of plain and channels-last memory."""

    name: ClassVar[str] = "torch"

    def version(self) -> str:
        """The installed version."""
        return str(import_torch().__version__)

    def prepare(self, task: Task) -> None:
        """Nothing: the model is read from the file."""

    def load(self, task: Task) -> Loaded:
        """Tries both memory formats and keeps the faster one."""
        torch = _set_up(task)
        best: tuple[float, str, Callable[[], Any]] | None = None
        for label in ("plain", "channels last"):
            network, arguments = _placed(torch, task, label)
            run = _runner(torch, network, arguments)
            run()
            start = time.perf_counter()
            for _ in range(_TRIALS):
                run()
            spent = time.perf_counter() - start
            if best is None or spent < best[0]:
                best = (spent, label, run)
            if not any(array.ndim == 4 for array in task.inputs.values()):
                break
        assert best is not None
        return _loaded(best[2], best[1], task)

    def load_streams(self, task: Task) -> Loaded:
        """A copy for each stream."""
        return single_threaded_copies(self, task)


@peer
class Inductor(Eager):
    """`torch.compile` with weights frozen into the graph; needs a C++ compiler."""

    name: ClassVar[str] = "inductor"

    def load(self, task: Task) -> Loaded:
        """Compiles on the first run; later processes find the result in Inductor's cache."""
        torch = _set_up(task)
        images = any(array.ndim == 4 for array in task.inputs.values())
        network, arguments = _placed(torch, task, "channels last" if images else "plain")
        compiled = torch.compile(network, options={"freezing": True})
        run = _runner(torch, compiled, arguments)
        for _ in range(_TRIALS):
            run()
        return _loaded(run, "frozen", task)


def _set_up(task: Task) -> Any:
    torch = import_torch()
    torch.set_num_threads(task.threads)
    torch.set_flush_denormal(True)
    return torch


def _placed(torch: Any, task: Task, label: str) -> tuple[Any, list[Any]]:
    network = torch_module(task.model).eval()
    arguments = [torch.from_numpy(array) for array in task.inputs.values()]
    if label == "channels last":
        network = network.to(memory_format=torch.channels_last)
        arguments = [each.contiguous(memory_format=torch.channels_last) if each.ndim == 4 else each
                     for each in arguments]
    return network, arguments


def _runner(torch: Any, network: Any, arguments: list[Any]) -> Callable[[], Any]:
    def run() -> Any:
        with torch.no_grad():
            return network(*arguments)

    return run


def _loaded(run: Callable[[], Any], note: str, task: Task) -> Loaded:
    last: list[Any] = []

    def keep() -> None:
        last[:] = run()

    return Loaded(keep, lambda: [each.numpy() for each in last], note, keep=(task,))
