"""Corner cases of signal processing, text and losses."""

import numpy as np
import pytest
from running import Array, both

from bessemer.core.dtypes import f32
from bessemer.core.errors import InputError, ShapeError
from bessemer.core.shapes import symbol
from bessemer.ir.types import TensorType
from bessemer.ops.loss import NegativeLogLikelihoodLoss, SoftmaxCrossEntropyLoss
from bessemer.ops.signal import DFT, STFT
from bessemer.ops.signal_windows import HannWindow, MelWeightMatrix
from bessemer.ops.text import (
    RegexFullMatch,
    StringNormalizer,
    StringSplit,
    TfIdfVectorizer,
)


def random(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def test_the_inverse_transform_undoes_it() -> None:
    x = random(2, 9, 3, 2)
    there = DFT().reference(x, None, np.array(1))
    np.testing.assert_allclose(DFT(inverse=1).reference(there, None, np.array(1)), x, atol=1e-5)
    real = random(2, 8, 1)
    half = DFT(onesided=1).reference(real)
    assert half.shape == (2, 5, 2)
    back = DFT(onesided=1, inverse=1).reference(half)
    np.testing.assert_allclose(back, real, atol=1e-5)


def test_transform_extents_with_symbols() -> None:
    x = TensorType(f32, (2, symbol("T"), 1))
    assert str(DFT(onesided=1).infer(x)) == "f32[2,(T//2)+1,2]"
    assert str(DFT(onesided=1, inverse=1).infer(x)) == "f32[2,2*T-2,1]"
    with pytest.raises(ShapeError, match="last axis"):
        DFT().infer(x, None, TensorType.of(np.array(-1)))


def test_frames_are_transforms_of_pieces() -> None:
    x, window = random(1, 20, 1), np.hanning(8).astype(np.float32)
    y = STFT().reference(x, np.array(5), window)
    assert y.shape == (1, 3, 5, 2)
    piece = np.fft.rfft(x[0, 5:13, 0] * window)
    np.testing.assert_allclose(y[0, 1, :, 0] + 1j * y[0, 1, :, 1], piece, atol=1e-5)


def test_symmetric_windows_are_symmetric() -> None:
    w = HannWindow(periodic=0).reference(np.array(9))
    np.testing.assert_allclose(w, w[::-1], atol=1e-7)
    np.testing.assert_allclose(w, np.hanning(9), atol=1e-7)


def test_mel_bands_are_triangles() -> None:
    m = MelWeightMatrix().reference(*(np.array(v) for v in (8, 64, 8192, 0.0, 4000.0)))
    assert m.shape == (33, 8)
    assert (m.max(axis=0) == 1).all()


def test_losses_agree_with_each_other() -> None:
    x, target, weight = random(3, 4, 2), np.array([[0, 3], [1, 9], [2, 2]]), np.abs(random(4))
    for reduction in ("none", "sum", "mean"):
        whole = SoftmaxCrossEntropyLoss(reduction=reduction, ignore_index=9)
        loss, logs = whole.reference(x, target, weight)
        part = NegativeLogLikelihoodLoss(reduction=reduction, ignore_index=9)
        np.testing.assert_allclose(both(part, logs, target, weight), loss, rtol=1e-5)
        np.testing.assert_allclose(both(whole, x, target, weight), loss, rtol=1e-5)
        if reduction == "none":
            assert loss[1, 1] == 0


def test_the_loss_of_the_right_class() -> None:
    x = np.array([[0, 100.0]], np.float32)
    loss = both(SoftmaxCrossEntropyLoss(), x, np.array([1]))
    assert abs(float(loss)) < 1e-6
    with pytest.raises(ShapeError, match="reduction"):
        SoftmaxCrossEntropyLoss(reduction="max").infer(
            TensorType.of(x), TensorType.of(np.array([1])))


def test_splits_are_filled_up() -> None:
    words = np.array(["a b  c", "", "  d "], object)
    parts, counts = StringSplit().reference(words)
    assert parts.tolist() == [["a", "b", "c"], ["", "", ""], ["d", "", ""]]
    assert counts.tolist() == [3, 0, 1]
    parts, counts = StringSplit(delimiter=" ", maxsplit=1).reference(words[:1])
    assert parts.tolist() == [["a", "b  c"]]


def test_nothing_left_is_one_empty_string() -> None:
    words = np.array([["The", "the"]], object)
    assert StringNormalizer(stopwords=("THE",)).reference(words).tolist() == [[""]]
    kept = StringNormalizer(stopwords=("the",), is_case_sensitive=1).reference(words)
    assert kept.tolist() == [["The"]]


def test_a_bad_pattern_is_found_at_build_time() -> None:
    with pytest.raises(ShapeError, match="no regular expression"):
        RegexFullMatch(pattern="(").infer(TensorType(f32, (2,)))


def test_skips_count_every_distance() -> None:
    op = TfIdfVectorizer(
        min_gram_length=2, max_gram_length=2, max_skip_count=1, ngram_counts=(0, 0),
        ngram_indexes=(1, 0), pool_int64s=(1, 2, 1, 3),
    )
    # 1 2 3 holds (1, 2) side by side and (1, 3) with one skipped.
    assert op.reference(np.array([1, 2, 3])).tolist() == [1, 1]
    with pytest.raises(InputError, match="n-grams"):
        TfIdfVectorizer(ngram_counts=(0,), ngram_indexes=(0, 1), pool_int64s=(1,)).reference(
            np.array([1]))
