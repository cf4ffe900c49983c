"""Large constants are checked in the background: nothing wrong gets out, and nothing hangs."""

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bessemer.core.errors import EngineFormatError
from bessemer.debug.tiny_engine import tiny_answer, tiny_engine_data
from bessemer.engine.checksum import BLOCK_BYTES, BlobDigest, blob_digest
from bessemer.engine.file import read_engine, read_entries, write_engine
from bessemer.runtime.load import load

COUNT = 1000
WORDS = r"m\.plan: byte \d+, section constants 2: the checksum differs; the file is damaged"
Made = tuple[Path, np.ndarray]


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(COUNT, np.float32)


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Made:
    """An engine file with 40 MB of constants, and those of the kernels among them."""
    data, constant = tiny_engine_data(COUNT)
    rest = np.random.default_rng(1).integers(0, 256, 40_000_003, np.uint8)
    path = tmp_path_factory.mktemp("engine") / "m.plan"
    write_engine(path, replace(data, constants=(*data.constants, (8192, rest))))
    return path, constant


@pytest.fixture
def damaged(good, tmp_path: Path) -> Path:
    """One bit of the last megabyte is another one."""
    content = bytearray(good[0].read_bytes())
    content[-1_000_000] ^= 4
    (tmp_path / "m.plan").write_bytes(content)
    return tmp_path / "m.plan"


def test_a_large_engine_runs(good, x) -> None:
    engine = load(good[0])
    np.testing.assert_array_equal(engine.run(x)["y"], tiny_answer(x, good[1]))
    engine.verify()
    np.testing.assert_array_equal(load(good[0]).enqueue(x).result()["y"], tiny_answer(x, good[1]))


def test_damage_is_an_error_before_any_result(damaged, x, tmp_path: Path) -> None:
    engine = load(damaged)
    context = engine.create_context()
    attempts = (
        lambda: context.run(x), lambda: context.run(x), lambda: context.profile(x),
        lambda: context.measured_peak_bytes(x), lambda: context.enqueue(x).result(),
        lambda: engine.run(x), lambda: engine.enqueue(x).result(), engine.verify,
        lambda: engine.save(tmp_path / "other.plan"), lambda: read_engine(damaged),
    )
    for attempt in attempts:
        with pytest.raises(EngineFormatError, match=WORDS):
            attempt()
    assert [path.name for path in tmp_path.iterdir()] == ["m.plan"]


def run_at_once(jobs: list[Callable[[], None]]) -> None:
    """Runs each job in a thread of its own; they begin together, and all end."""
    meeting = threading.Barrier(len(jobs))

    def meet(job: Callable[[], None]) -> None:
        meeting.wait()
        job()

    threads = [threading.Thread(target=meet, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)


def test_several_contexts_ask_at_the_same_time(good, x) -> None:
    expected = tiny_answer(x, good[1])
    for _ in range(20):
        engine = load(good[0])
        contexts = [engine.create_context() for _ in range(4)]
        found = []
        run_at_once([lambda context=context, found=found: found.append(context.run(x)["y"])
                     for context in contexts])
        assert len(found) == 4
        assert all(np.array_equal(y, expected) for y in found)


def test_several_contexts_wait_for_one_check(damaged, x) -> None:
    engine = load(damaged)
    found = []

    def run() -> None:
        with pytest.raises(EngineFormatError, match=WORDS) as caught:
            engine.create_context().run(x)
        found.append(caught)

    run_at_once([run] * 4)
    assert len(found) == 4


def test_a_cut_file_is_refused_at_once(good, tmp_path: Path) -> None:
    content = good[0].read_bytes()
    for size in (len(content) - 1, len(content) - 30_000_000):
        (tmp_path / "m.plan").write_bytes(content[:size])
        with pytest.raises(EngineFormatError, match="it is truncated"):
            load(tmp_path / "m.plan")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_child_process_checks_what_its_parent_had_not(good, damaged, x) -> None:
    for path, expected in ((good[0], 0), (damaged, 1)):
        engine = load(path)
        child = os.fork()
        if child == 0:
            found = 2
            try:
                engine.verify()
                found = 0
            except EngineFormatError:
                found = 1
            finally:
                os._exit(found)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == expected


def test_without_threads_the_asker_does_the_work(monkeypatch) -> None:
    blob = np.random.default_rng(2).integers(0, 256, 40_000_003, np.uint8)
    expected = blob_digest(blob)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert BlobDigest(blob).result() == expected


def test_the_last_pieces_count() -> None:
    blob = np.zeros(600 * BLOCK_BYTES + 5, np.uint8)
    digests = {blob_digest(blob)}
    for place in (0, 255 * BLOCK_BYTES, 256 * BLOCK_BYTES, 599 * BLOCK_BYTES, len(blob) - 1):
        blob[place] += 1
        digests.add(blob_digest(blob))
    assert len(digests) == 6


@pytest.mark.parametrize("size", [1, 100, (2 << 20) - 4096, 2 << 20, 7_000_001])
def test_constants_are_written_in_pieces(tmp_path: Path, size: int) -> None:
    """Whatever their sizes and gaps; those that are not contiguous too."""
    source = np.random.default_rng(size)
    data, constant = tiny_engine_data(COUNT)
    first = source.integers(0, 256, size, np.uint8)
    turned = source.standard_normal((300, 700)).astype(np.float32).T
    after = 8192 + -(-size // 64) * 64 + 5_000_000
    constants = ((after, turned), (8192, first), *data.constants)
    write_engine(tmp_path / "m.plan", replace(data, constants=constants))
    ((_, blob),) = read_engine(tmp_path / "m.plan").constants
    assert len(blob) == after + turned.nbytes
    np.testing.assert_array_equal(blob[: constant.nbytes].view(np.float32), constant)
    np.testing.assert_array_equal(blob[8192 : 8192 + size], first)
    assert not blob[8192 + size : after].any()
    np.testing.assert_array_equal(blob[after:], np.frombuffer(turned.tobytes(), np.uint8))
    assert [*read_entries(tmp_path / "m.plan")][-1].size == len(blob)
