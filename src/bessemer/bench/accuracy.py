"""Accuracy: the share of labelled examples that a classifier gets right."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bessemer.core.errors import InputError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Accuracy:
    """How many of `examples` had the label as the best answer, and among the best five."""

    examples: int
    top1: float
    top5: float | None


@dataclass(frozen=True)
class LabelledData:
    """Arrays by input name, first axis = examples, and the labels [examples]."""

    inputs: Mapping[str, Array]
    labels: Array


def read_labelled_data(
    data: str, labels: str | None, input_names: Sequence[str]
) -> LabelledData:
    """Examples from an .npz: arrays under the input names (or `x`, `data`), labels under `labels`.

    `labels` may name another .npy file. Raises: InputError if something is missing or of
    another length.
    """
    arrays = _read_npz(data)
    inputs = {name: arrays[name] for name in input_names if name in arrays}
    if not inputs and len(input_names) == 1:
        found = next((key for key in ("x", "data", "images", "inputs") if key in arrays), None)
        inputs = {input_names[0]: arrays[found]} if found else {}
    if len(inputs) != len(input_names):
        raise InputError(
            f"{data} holds {', '.join(arrays) or 'nothing'}; expected arrays named "
            f"{', '.join(input_names)}"
        )
    expected = _read_labels(labels) if labels else _labels_in(data, arrays)
    for name, array in inputs.items():
        if len(array) != len(expected):
            raise InputError(f"{data}: {name} has {len(array)} examples, labels {len(expected)}")
    return LabelledData(inputs, expected.astype(np.int64).reshape(-1))


def _read_npz(path: str) -> dict[str, Array]:
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file (expected an .npz with the examples)")
    try:
        loaded = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{path}: not a readable .npz file: {error}") from error
    if isinstance(loaded, np.ndarray):
        return {"x": loaded}
    with loaded:
        return {name: loaded[name] for name in loaded.files}


def _read_labels(path: str) -> Array:
    arrays = _read_npz(path)
    return arrays["x"] if "x" in arrays else next(iter(arrays.values()))


def _labels_in(path: str, arrays: Mapping[str, Array]) -> Array:
    for key in ("labels", "y"):
        if key in arrays:
            return arrays[key]
    raise InputError(f"{path} has no array 'labels'; give them with --labels FILE.npy")


def batches(data: LabelledData, batch: int) -> list[tuple[dict[str, Array], int]]:
    """The examples in batches of exactly `batch`; (inputs, examples that count).

    The last one is filled up by repeating its last example.
    """
    result = []
    for start in range(0, len(data.labels), batch):
        count = min(batch, len(data.labels) - start)
        index = np.minimum(np.arange(start, start + batch), start + count - 1)
        result.append(({name: array[index] for name, array in data.inputs.items()}, count))
    return result


def measure_accuracy(
    run: Callable[[dict[str, Array]], Mapping[str, Array]], data: LabelledData, batch: int,
    output: str | None = None,
) -> Accuracy:
    """Runs all examples and scores the output (the first one unless named) [batch, ..., classes].

    Raises: InputError if the output holds no scores per example.
    """
    best1 = best5 = done = classes = 0
    for inputs, count in batches(data, batch):
        outputs = run(inputs)
        name = output or next(iter(outputs))
        if name not in outputs:
            raise InputError(f"no output is named {name!r}; there are {', '.join(outputs)}")
        scores = np.asarray(outputs[name])
        if scores.size % batch or scores.size == 0:
            raise InputError(
                f"output {name!r} has shape {scores.shape}; accuracy needs one row of scores "
                f"for each of the {batch} examples"
            )
        scores = scores.reshape(batch, -1)[:count]
        classes = scores.shape[1]
        labels = data.labels[done : done + count, None]
        order = np.argsort(-scores, axis=1, kind="stable")
        best1 += int((order[:, :1] == labels).any(axis=1).sum())
        best5 += int((order[:, :5] == labels).any(axis=1).sum())
        done += count
    total = max(done, 1)
    return Accuracy(done, best1 / total, best5 / total if classes > 5 else None)
