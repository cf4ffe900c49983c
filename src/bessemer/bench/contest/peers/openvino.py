"""OpenVINO: the latency hint, f32, shared input tensors; for throughput its own hint and queue."""

from typing import Any, ClassVar

import numpy as np

from bessemer.bench.contest.task import Array, Loaded, Task, peer
from bessemer.core.errors import MissingExtraError

_REQUESTS_PER_STREAM = 4


@peer
class OpenVino:
    """The CPU plugin."""

    name: ClassVar[str] = "openvino"

    def version(self) -> str:
        """The installed version."""
        return str(_package().__version__).partition("-")[0]

    def prepare(self, task: Task) -> None:
        """Nothing: it compiles while it loads."""

    def load(self, task: Task) -> Loaded:
        """One request that is started and waited for."""
        package = _package()
        model = self._compiled(task, "LATENCY")
        request = model.create_infer_request()
        tensors = [package.Tensor(task.inputs[name], shared_memory=True)
                   for name in self._order(model, task)]
        for index, tensor in enumerate(tensors):
            request.set_input_tensor(index, tensor)
        start, wait = request.start_async, request.wait

        def run() -> None:
            start()
            wait()

        def outputs() -> list[Array]:
            return [np.array(request.get_output_tensor(k).data) for k in range(len(model.outputs))]

        return Loaded(run, outputs, keep=(task, tensors))

    def load_streams(self, task: Task) -> Loaded:
        """As many requests in flight as it finds best."""
        package = _package()
        model = self._compiled(task, "THROUGHPUT")
        streams = int(model.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        queue = package.AsyncInferQueue(model, streams)
        feed = {k: task.inputs[name] for k, name in enumerate(self._order(model, task))}
        calls = _REQUESTS_PER_STREAM * streams

        def run() -> None:
            for _ in range(calls):
                queue.start_async(feed, share_inputs=True)
            queue.wait_all()

        def outputs() -> list[Array]:
            return [np.array(queue[0].get_output_tensor(k).data)
                    for k in range(len(model.outputs))]

        return Loaded(run, outputs, f"{streams} streams", calls, (task, feed))

    def _compiled(self, task: Task, hint: str) -> Any:
        return _package().Core().compile_model(str(task.model), "CPU", {
            "PERFORMANCE_HINT": hint, "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": task.threads,
        })

    def _order(self, model: Any, task: Task) -> list[str]:
        """The task's input of each of the model's."""
        return [next(name for name in task.inputs if name in port.get_names())
                for port in model.inputs]


def _package() -> Any:  # Any: it has no types
    try:
        import openvino
    except ImportError as error:
        raise MissingExtraError(
            "openvino is not installed; install it with: pip install openvino") from error
    return openvino
