"""ONNX Runtime: all optimisations, inputs and outputs bound once."""

from typing import Any, ClassVar

from bessemer.bench.contest.task import Loaded, Task, peer, single_threaded_copies
from bessemer.core.errors import MissingExtraError


@peer
class OnnxRuntime:
    """The CPU provider with denormals as zero, as its documentation advises for speed."""

    name: ClassVar[str] = "onnxruntime"

    def version(self) -> str:
        """The installed version."""
        return str(_package().__version__)

    def prepare(self, task: Task) -> None:
        """Nothing: it optimises while it loads."""

    def load(self, task: Task) -> Loaded:
        """One session with a thread pool inside operators."""
        ort = _package()
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads, options.inter_op_num_threads = task.threads, 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        session = ort.InferenceSession(
            str(task.model), options, providers=["CPUExecutionProvider"])
        binding = session.io_binding()
        kept = {name: ort.OrtValue.ortvalue_from_numpy(array)
                for name, array in task.inputs.items()}
        for name, value in kept.items():
            binding.bind_ortvalue_input(name, value)
        first = session.run(list(task.outputs), dict(task.inputs))
        results = [ort.OrtValue.ortvalue_from_numpy(array.copy()) for array in first]
        for name, value in zip(task.outputs, results, strict=True):
            binding.bind_ortvalue_output(name, value)
        call = session.run_with_iobinding

        def run() -> None:
            call(binding)

        return Loaded(run, lambda: [value.numpy() for value in results],
                      keep=(task, kept))

    def load_streams(self, task: Task) -> Loaded:
        """A session for each stream: it has no other way to share weights between them."""
        return single_threaded_copies(self, task)


def _package() -> Any:  # Any: it has no types
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError(
            "onnxruntime is not installed; install it with: pip install onnxruntime") from error
    return onnxruntime
