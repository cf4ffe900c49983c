"""Long steps are shared by pieces: the answers stay, whoever takes them."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import onnx.parser
import pytest

import bessemer
from bessemer.core import driver_abi as abi
from bessemer.debug.tiny_engine import tiny_engine_data
from bessemer.runtime import program
from bessemer.runtime.engine import Engine

COUNT = 1 << 16


def most_pieces(context) -> int:
    flags = context._runner.program.jobs.flags
    return max(int(word) >> abi.PIECES_SHIFT for word in flags)


def answer(x: np.ndarray, constant: np.ndarray) -> np.ndarray:
    return (x + constant) * (x + constant) + constant


def test_short_steps_are_not_cut() -> None:
    with Engine(tiny_engine_data(64)[0]).create_context(2) as context:
        assert most_pieces(context) == 0


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
@pytest.mark.parametrize("piece_seconds", [1e-6, 1e-12])
def test_every_piece_is_run_once(monkeypatch, threads: int, piece_seconds: float) -> None:
    """Each step needs all of the step before it; some of them sweep."""
    monkeypatch.setattr(program, "_PIECE_SECONDS", piece_seconds)
    data, constant = tiny_engine_data(COUNT)
    x = np.random.default_rng(1).standard_normal(COUNT, np.float32)
    with Engine(data).create_context(threads) as context:
        assert most_pieces(context) > 3
        for turn in range(30):
            found = context.run({"x": x + turn})["y"]
            np.testing.assert_array_equal(found, answer(x + turn, constant))


def test_several_callers_at_once(monkeypatch) -> None:
    """One of them has the pool, the others run alone."""
    monkeypatch.setattr(program, "_PIECE_SECONDS", 1e-7)
    data, constant = tiny_engine_data(COUNT)
    engine = Engine(data)

    def work(seed: int) -> bool:
        x = np.random.default_rng(seed).standard_normal(COUNT, np.float32)
        with engine.create_context(3) as context:
            return all(np.array_equal(context.run({"x": x})["y"], answer(x, constant))
                       for _ in range(20))

    with ThreadPoolExecutor(3) as callers:
        assert all(callers.map(work, range(3)))


MODEL = """
<ir_version: 8, opset_import: ["": 17]>
agraph (float[1, 16, 37, 41] x) => (float[1, 16, 37, 37] y)
{
    a = Conv <pads = [1, 1, 1, 1]> (x, w)
    b = Relu(a)
    c = MatMul(b, m)
    y = Softmax(c)
}
"""


def test_pieces_change_no_bit(monkeypatch) -> None:
    model = onnx.parser.parse_model(MODEL)
    draw = np.random.default_rng(0).standard_normal
    for name, shape in {"w": (16, 16, 3, 3), "m": (41, 37)}.items():
        model.graph.initializer.append(
            onnx.numpy_helper.from_array(draw(shape, np.float32), name))
    engine = bessemer.build(model)
    x = draw((1, 16, 37, 41), np.float32)
    outputs = []
    for seconds in (1.0, 2e-5, 1e-8):
        monkeypatch.setattr(program, "_PIECE_SECONDS", seconds)
        for threads in (1, 2, 3):
            with Engine(engine.data).create_context(threads) as context:
                outputs.append(context.run({"x": x})["y"])
                assert (most_pieces(context) > 1) == (seconds < 1e-3)
    for found in outputs[1:]:
        np.testing.assert_array_equal(found, outputs[0])
