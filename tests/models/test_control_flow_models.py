"""Models with control flow: a voice detector with branches, decoders that loop."""

import wave

import numpy as np
import pytest
from against_onnxruntime import relative_error, session
from greedy_decoder import END, WIDTH, attending_decoder, recurrent_decoder
from labelled_images import data_folder

import bessemer

pytestmark = pytest.mark.models

_BLOCK, _CONTEXT, _RATE = 512, 64, 16000


def speech():
    """One minute of speech, f32 in -1..1."""
    with wave.open(str(data_folder() / "audio" / "speech" / "silero_test.wav")) as file:
        data = file.readframes(file.getnframes())
    return np.frombuffer(data, np.int16).astype(np.float32) / 32768


@pytest.mark.parametrize("file", ["silero_vad.onnx", "silero_vad_16k_op15.onnx"])
def test_voice_is_detected_over_the_whole_file(file):
    """Both carry their own state through all blocks, so errors could add up."""
    path = data_folder() / "models" / "onnx" / "silero_vad" / file
    reference = session(str(path))
    engine = bessemer.build(path, shapes={"input": (1, _CONTEXT + _BLOCK), "state": (2, 1, 128)})
    samples = speech()
    context = np.zeros(_CONTEXT, np.float32)
    states = [np.zeros((2, 1, 128), np.float32)] * 2
    probabilities = []
    with engine.create_context() as running:
        for start in range(0, len(samples) - _BLOCK + 1, _BLOCK):
            block = samples[start : start + _BLOCK]
            feed = {"input": np.concatenate([context, block])[None], "sr": np.array(_RATE)}
            context = block[-_CONTEXT:]
            expected = reference.run(None, feed | {"state": states[0]})
            found = list(running.run(feed | {"state": states[1]}).values())
            states = [expected[1], found[1]]
            assert abs(expected[0] - found[0]).max() <= 1e-5
            assert relative_error(expected[1], found[1]) <= 1e-5
            probabilities.append(float(found[0].item()))
    first = probabilities[: 20 * _RATE // _BLOCK - 1]
    assert 100 * np.mean(np.array(first) > 0.5) == pytest.approx(70.5, abs=0.1)


def test_one_engine_detects_voice_at_both_rates():
    """The rate chooses the branch; the branches take blocks of different length."""
    path = data_folder() / "models" / "onnx" / "silero_vad" / "silero_vad.onnx"
    reference, engine = session(str(path)), bessemer.build(path, strict=False)
    rng = np.random.default_rng(0)
    for rate, length, batch in ((16000, 576, 1), (8000, 288, 3), (16000, 576, 2), (8000, 288, 1)):
        states = [np.zeros((2, batch, 128), np.float32)] * 2
        for _ in range(3):
            block = rng.standard_normal((batch, length)).astype(np.float32) / 8
            feed = {"input": block, "sr": np.array(rate)}
            expected = reference.run(None, feed | {"state": states[0]})
            found = list(engine.run(feed | {"state": states[1]}).values())
            states = [expected[1], found[1]]
            assert abs(expected[0] - found[0]).max() <= 1e-5
            assert relative_error(expected[1], found[1]) <= 1e-5


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("steps", [20, 100])
def test_a_recurrent_decoder(seed, steps):
    proto = recurrent_decoder(seed, steps)
    engine = bessemer.build(proto)
    reference = session(proto.SerializeToString())
    rng = np.random.default_rng(seed)
    for _ in range(3):
        feed = {"first_state": rng.standard_normal((1, 1, WIDTH)).astype(np.float32)}
        tokens, scores, state = reference.run(None, feed)
        found = engine.run(feed)
        assert found["tokens"].tolist() == tokens.tolist()
        assert END not in tokens[:-1]
        assert relative_error(scores, found["all_scores"]) <= 1e-4
        assert relative_error(state, found["last_state"]) <= 1e-4


@pytest.mark.parametrize("seed", range(4))
def test_a_decoder_over_a_growing_sequence(seed):
    proto = attending_decoder(seed)
    engine = bessemer.build(proto)
    assert not list(engine.plan.opaque_steps)
    reference = session(proto.SerializeToString())
    for steps in (0, 1, 12):
        for prompt in ([1, 2, 4], [7], [5, 11, 42, 8, 9, 10, 13, 1, 2]):
            feed = {"prompt": np.array(prompt), "steps": np.array(steps)}
            (tokens,) = reference.run(None, feed)
            assert engine.run(feed)["all_tokens"].tolist() == tokens.tolist()
