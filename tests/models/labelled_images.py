"""Pictures and labels of the shared data, as the real models expect them."""

import csv
import gzip
import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

_ROOT = Path(__file__).parents[2]


def data_folder() -> Path:
    """The shared data: $BESSEMER_DATA, or ../shared/data beside the repository; else skips."""
    folder = Path(os.environ.get("BESSEMER_DATA") or _ROOT.parent / "shared" / "data")
    if not (folder / "models" / "onnx").is_dir():
        pytest.skip(f"no model data under {folder}; set BESSEMER_DATA")
    return folder


def mnist() -> tuple[np.ndarray, np.ndarray]:
    """5000 digits f32 [n, 1, 28, 28] in 0..255, labels [n]."""
    folder = data_folder() / "images" / "mnist"
    pixels = gzip.decompress((folder / "images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((folder / "labels-idx1-ubyte.gz").read_bytes())[8:]
    images = np.frombuffer(pixels, np.uint8).reshape(-1, 1, 28, 28).astype(np.float32)
    return images, np.frombuffer(labels, np.uint8)


def cifar10(count: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """2000 pictures f32 [n, 3, 32, 32], normalised, labels [n]."""
    from PIL import Image

    mean = np.array([0.4914, 0.4822, 0.4465], np.float32)
    deviation = np.array([0.2023, 0.1994, 0.2010], np.float32)
    images, labels = [], []
    with zipfile.ZipFile(data_folder() / "images" / "cifar10" / "test_2000.zip") as archive:
        rows = list(csv.DictReader(io.StringIO(archive.read("labels.csv").decode())))
        for row in rows[:count]:
            with Image.open(io.BytesIO(archive.read(row["file"]))) as picture:
                pixels = np.asarray(picture.convert("RGB"), np.float32) / 255
            images.append(((pixels - mean) / deviation).transpose(2, 0, 1))
            labels.append(int(row["label"]))
    return np.stack(images), np.array(labels)


def faces(count: int | None = None) -> np.ndarray:
    """Face photographs f32 [n, 3, 240, 320] in -1..1."""
    from PIL import Image

    images = []
    for path in sorted((data_folder() / "images" / "faces").glob("*.jpg"))[:count]:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB").resize((320, 240)), np.float32)
        images.append(((pixels - 127) / 128).transpose(2, 0, 1))
    return np.stack(images)


def luma(count: int) -> np.ndarray:
    """Brightness of ImageNet pictures f32 [n, 1, 224, 224] in 0..1."""
    from PIL import Image

    images = []
    for path in sorted((data_folder() / "images" / "imagenet_sample").glob("*.jpg"))[:count]:
        with Image.open(path) as picture:
            pixels = picture.convert("YCbCr").resize((224, 224)).split()[0]
        images.append(np.asarray(pixels, np.float32)[None] / 255)
    return np.stack(images)
