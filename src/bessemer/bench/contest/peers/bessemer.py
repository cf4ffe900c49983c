"""Bessemer itself: built and saved before, loaded from the engine file."""

from pathlib import Path
from typing import Any, ClassVar

from bessemer import __version__
from bessemer.bench.contest.task import Array, Loaded, Task, peer, side_by_side
from bessemer.core.settings import settings
from bessemer.runtime.load import load


@peer
class Bessemer:
    """`bessemer.build` with its defaults; the settings' variables reach it as any user's."""

    name: ClassVar[str] = "bessemer"

    def version(self) -> str:
        """The version of this package."""
        return __version__

    def prepare(self, task: Task) -> None:
        """Builds and saves the engine."""
        from bessemer.compiler.build import build

        build(task.model, threads=task.threads).save(self._plan(task))

    def load(self, task: Task) -> Loaded:
        """One context on all threads."""
        return self._loaded(load(self._plan(task)), task, task.threads)

    def load_streams(self, task: Task) -> Loaded:
        """Several contexts of one engine: they share its weights."""
        engine = load(self._plan(task))
        return side_by_side([self._loaded(engine, task, 1) for _ in range(task.streams)])

    def _plan(self, task: Task) -> Path:
        settings()  # wrong settings are refused before anything is timed
        return task.file(f"-{task.threads}-threads.plan")

    def _loaded(self, engine: Any, task: Task, threads: int) -> Loaded:
        context, inputs = engine.create_context(threads), dict(task.inputs)
        last: list[Array] = []

        def run() -> None:
            last[:] = context.run(inputs).values()

        return Loaded(run, lambda: last)
