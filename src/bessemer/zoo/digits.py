"""The handwritten digits of scikit-learn with one fixed, seeded, stratified split."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from bessemer.core.errors import MissingExtraError

_SPLIT_SEED = 20
_HELD_OUT = 0.2


@dataclass(frozen=True)
class Digits:
    """Pictures f32 [n, 1, 8, 8] in 0..1 and labels i64 [n], for training and held out."""

    train_images: np.ndarray[Any, Any]
    train_labels: np.ndarray[Any, Any]
    test_images: np.ndarray[Any, Any]
    test_labels: np.ndarray[Any, Any]


def load_digits() -> Digits:
    """The digits; a fifth of each class is held out, always the same one.

    Raises: MissingExtraError if scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits as load
    except ImportError as error:
        raise MissingExtraError(
            "the digits come with scikit-learn, which is not installed; "
            "run: pip install 'bessemer[demo]'"
        ) from error
    data = load()
    images = (data.images / 16.0).astype(np.float32)[:, None]
    labels = data.target.astype(np.int64)
    random = np.random.default_rng(_SPLIT_SEED)
    held_out = np.zeros(len(labels), bool)
    for digit in range(10):
        members = random.permutation(np.flatnonzero(labels == digit))
        held_out[members[: round(_HELD_OUT * len(members))]] = True
    return Digits(images[~held_out], labels[~held_out], images[held_out], labels[held_out])
