"""`bessemer demo`: the whole road on real models, with figures."""

import sys

from rich.console import Console

from bessemer.cli.options import Threads
from bessemer.cli.registry import command


@command("demo", example="bessemer demo")
def demo(threads: Threads = None) -> None:
    """Build, save, load and run real models; print accuracy, latency, memory and kernels.

    First a small network trained on handwritten digits, then a ResNet-50 with seeded weights, both
    beside ONNX Runtime in the same run.
    """
    from bessemer.bench.demo import run_demo

    run_demo(Console(file=sys.stdout), threads=threads)
