"""What a runtime is asked to do, and what it answers with."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from bessemer.core.errors import SettingsError
from bessemer.core.registry import Registry

Array = np.ndarray[Any, Any]

_ROUNDS = 4


@dataclass(frozen=True)
class Task:
    """One model with one set of inputs, by name, in the model's order.

    `streams` above 1 asks for that many inferences side by side, on one thread each; `threads` is
    then their number. Files that a runtime makes of the model go to `folder`.
    """

    model: Path
    inputs: Mapping[str, Array]
    outputs: tuple[str, ...]
    threads: int
    folder: Path
    streams: int = 1

    def file(self, suffix: str) -> Path:
        """A place in the folder that belongs to this model and no other."""
        return self.folder / f"{self.model.stem}{suffix}"

    def is_current(self, path: Path) -> bool:
        """True if a file was made of the model as it is now."""
        return path.exists() and path.stat().st_mtime >= self.model.stat().st_mtime


@dataclass(frozen=True)
class Loaded:
    """A model ready to run on the task's inputs; `run` may be called again and again.

    `outputs` gives the results of the last run in the model's order, or as many of them as the
    runtime shows. One call of `run` makes `items` inferences. `keep` is what must live as long:
    runtimes read the caller's memory.
    """

    run: Callable[[], object]
    outputs: Callable[[], Sequence[Array]]
    note: str = ""
    items: int = 1
    keep: tuple[object, ...] = ()


class Peer(Protocol):
    """A runtime. It lives in a process of its own and may set what it likes there."""

    name: ClassVar[str]

    def version(self) -> str:
        """The installed version. Raises: MissingExtraError."""

    def prepare(self, task: Task) -> None:
        """Makes what can be made once and kept: converted or compiled models.

        Raises: ModelFormatError, UnsupportedOperatorError, MissingExtraError.
        """

    def load(self, task: Task) -> Loaded:
        """Loads the model with the settings that are best for latency. Raises: as `prepare`."""

    def load_streams(self, task: Task) -> Loaded:
        """Loads the model for as many inferences a second as possible. Raises: as `prepare`."""


_PEERS: Registry[type[Peer]] = Registry("runtime", "bessemer.bench.contest.peers", SettingsError)


def peer(kind: type[Peer]) -> type[Peer]:
    """Registers a runtime under its name."""
    return _PEERS.add(kind.name, kind)


def peer_names() -> list[str]:
    """The names of all runtimes, sorted."""
    return _PEERS.names()


def make_peer(name: str) -> Peer:
    """The runtime of that name. Raises: SettingsError."""
    return _PEERS.get(name)()


def side_by_side(copies: Sequence[Loaded]) -> Loaded:
    """Runs each copy on a Python thread of its own, a few inferences each per call."""
    meeting = threading.Barrier(len(copies))

    def laps(copy: Loaded) -> None:
        meeting.wait()
        for _ in range(_ROUNDS):
            copy.run()
        meeting.wait()

    def forever(copy: Loaded) -> None:
        while True:
            laps(copy)

    for copy in copies[1:]:
        threading.Thread(target=forever, args=(copy,), daemon=True).start()
    first = copies[0]
    return Loaded(
        lambda: laps(first), first.outputs, f"{len(copies)} copies", _ROUNDS * len(copies),
        tuple(copies))


def single_threaded_copies(subject: Peer, task: Task) -> Loaded:
    """The plain way to throughput: one copy on one thread for each stream."""
    one = replace(task, threads=1, streams=1)
    return side_by_side([subject.load(one) for _ in range(task.streams)])
