"""Signal processing: transforms, windows, mel weights."""

import numpy as np

from bessemer.debug.random_graphs.data import Array
from bessemer.debug.random_graphs.maker import Maker, rule


@rule("DFT", weight=0.4)
def dft(maker: Maker) -> None:
    """The discrete Fourier transform of real and complex signals."""
    parts = maker.integer(1, 2)
    x = maker.fresh(maker.dtype(("f32", "f64")), [maker.integer(1, 2), maker.integer(1, 8), parts],
                    low=-5, high=5)  # a transform spreads an infinity in its own way
    onesided = maker.integer(0, 1) if parts == 1 else 0
    inverse = 0 if onesided else maker.integer(0, 1)
    if maker.opset >= 20:
        axis = maker.given(np.asarray(1, np.int64), True)
        maker.emit("DFT", [x, None, axis], onesided=onesided, inverse=inverse)


@rule("HannWindow", "HammingWindow", "BlackmanWindow", weight=0.15)
def window(maker: Maker) -> None:
    """Windows of a given length."""
    size = maker.given(np.asarray(maker.integer(2, 12), np.int64))
    maker.emit(maker.choose("HannWindow", "HammingWindow", "BlackmanWindow"), [size],
               periodic=maker.integer(0, 1))


@rule("STFT", "MelWeightMatrix", weight=0.2)
def spectra(maker: Maker) -> None:
    """Short-time transforms, and the matrix of mel bands."""
    if maker.chance(0.5):
        x = maker.fresh("f32", [1, 16, 1], low=-5, high=5)
        step = maker.given(np.asarray(maker.integer(1, 4), np.int64), True)
        frame = maker.fresh("f32", [8], low=0.1, high=1)
        length = maker.given(np.asarray(8, np.int64), True)
        maker.emit("STFT", [x, step, frame, length], onesided=maker.integer(0, 1))
        return
    numbers: list[Array] = [np.asarray(maker.integer(2, 6), np.int64), np.asarray(16, np.int64),
               np.asarray(8000, np.int64), np.asarray(100.0, np.float32),
               np.asarray(3000.0, np.float32)]
    maker.emit("MelWeightMatrix", [maker.given(n, True) for n in numbers])
