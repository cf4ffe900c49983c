"""A quantised transformer (QDQ) that tells spoken words apart, on recorded clips."""

import wave

import numpy as np
import pytest
from labelled_images import data_folder

import bessemer

ort = pytest.importorskip("onnxruntime")

_LIST = (
    "backward bed bird cat dog down eight five follow forward four go happy house learn left "
    "marvin nine no off on one right seven sheila six stop three tree two up visual wow yes zero"
)
WORDS = _LIST.split()
STEP = 0.0345528
"""The scale of the logits: they are quantised too."""


def mel_bands(count=80, bins=257, top=8000.0):
    """Triangular filters, evenly spaced on the HTK mel scale: f64[count, bins]."""
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + top / 700), count + 2) / 2595) - 1)
    below = edges[:, None] - np.linspace(0, top, bins)
    width = np.diff(edges)[:, None]
    return np.maximum(0, np.minimum(-below[:-2] / width[:-1], below[2:] / width[1:]))


def features(path):
    """Normalised log mel spectrogram of one second of sound: f32[1, 101, 80]."""
    with wave.open(str(path)) as clip:
        assert (clip.getframerate(), clip.getnchannels()) == (16000, 1)
        sound = np.frombuffer(clip.readframes(16000), np.int16) / 32768
    sound = np.pad(np.pad(sound, (0, 16000 - len(sound))), 256, mode="reflect")
    window = np.zeros(512)
    window[56:456] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames = np.stack([sound[k : k + 512] * window for k in range(0, 16001, 160)])
    power = np.abs(np.fft.rfft(frames)) ** 2
    log = np.log(power @ mel_bands().T + 1e-6)
    return ((log - log.mean()) / (log.std() + 1e-5)).astype(np.float32)[None]


@pytest.fixture(scope="module")
def model():
    return data_folder() / "models" / "onnx" / "kwt_int8_qdq" / "keyword_spotting_int8.onnx"


@pytest.fixture(scope="module")
def engine(model):
    return bessemer.build(model)


@pytest.mark.parametrize(("clip", "word", "logit"), [
    ("yes_1000ms.wav", "yes", 5.91), ("no_1000ms.wav", "no", 5.60),
])
def test_words_are_told_apart(engine, clip, word, logit):
    heard = features(data_folder() / "audio" / "speech" / clip)
    (logits,) = engine.run({"mel_input": heard}).values()
    assert WORDS[int(logits.argmax())] == word
    # The recorded figures are ONNX Runtime's with its own fusions, which move logits by a step.
    assert logits.max() == pytest.approx(logit, abs=1.5 * STEP)


def test_logits_are_those_of_the_model_as_written(model, engine):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    folder = data_folder() / "audio" / "speech"
    clips = [features(path) for path in sorted(folder.glob("*ms.wav"))]
    for x in (*clips, rng.normal(size=(1, 101, 80)).astype(np.float32)):
        (expected,) = session.run(None, {"mel_input": x})
        (logits,) = engine.run({"mel_input": x}).values()
        # Sums are formed in another order, so a value on a tie may fall to the other side.
        np.testing.assert_allclose(logits, expected, atol=2.5 * STEP)
        assert np.abs(logits - expected).mean() < STEP
