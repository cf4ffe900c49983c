"""ai.onnx.ml: features cleaned, scaled, looked up and put together."""

from typing import Any

import numpy as np

from bessemer.debug.random_graphs.maker import Maker, rule
from bessemer.debug.random_graphs.models import ML
from bessemer.debug.random_graphs.values import Reject, Value

NUMBERS = ("f32", "f32", "f64", "i64", "i32")


def table(maker: Maker, dtypes: tuple[str, ...] = NUMBERS) -> Value:
    """Rows of features; at times one row without its axis."""
    x = maker.pick(dtypes, (1, 2) if maker.chance(0.2) else (2, 2))
    if not x.data.size or x.shape[-1] > 64:
        raise Reject
    return x


def floats(maker: Maker, count: int, low: float = -2.0, high: float = 2.0) -> list[float]:
    """Numbers for an attribute."""
    return [round(maker.random.uniform(low, high), 3) for _ in range(count)]


@rule("Binarizer", weight=0.3)
def binarizer(maker: Maker) -> None:
    """1 above a threshold, else 0."""
    maker.emit(f"{ML}.Binarizer",
        [maker.pick(("f32", "f64", "i64", "i32"), (1, 4))],
        threshold=maker.choose(0.0, 1.0, -0.5),
    )


@rule("Scaler", weight=0.4)
def scaler(maker: Maker) -> None:
    """(x - offset) * scale: for each feature, or one of each for all."""
    x = table(maker)
    count = x.shape[-1] if maker.chance(0.7) else 1
    maker.emit(f"{ML}.Scaler", [x], offset=floats(maker, count), scale=floats(maker, count))


@rule("Normalizer", weight=0.4)
def normalizer(maker: Maker) -> None:
    """Each row divided by its largest number, sum or length."""
    maker.emit(f"{ML}.Normalizer", [table(maker)], norm=maker.choose("MAX", "L1", "L2"))


@rule("Imputer", weight=0.4)
def imputer(maker: Maker) -> None:
    """Another number where one is missing: NaN, or a number that stands for it."""
    x = table(maker, ("f32", "i64"))
    count = x.shape[-1] if maker.chance(0.6) else 1
    if x.dtype == "i64":
        maker.emit(f"{ML}.Imputer",
            [x],
            replaced_value_int64=maker.integer(-2, 2),
            imputed_value_int64s=[maker.integer(-9, 9) for _ in range(count)],
        )
        return
    if maker.chance(0.6):
        data = np.where(
            np.random.default_rng(maker.counter).random(x.shape) < 0.3, np.float32(np.nan), x.data
        ).astype(np.float32)
        x = maker.given(data)
    maker.emit(f"{ML}.Imputer",
        [x],
        imputed_value_floats=floats(maker, count),
        replaced_value_float=float("nan"),
    )


@rule("ArrayFeatureExtractor", weight=0.4)
def extractor(maker: Maker) -> None:
    """Some columns."""
    x = maker.pick((*NUMBERS, "string"), (1, 3))
    if not x.data.size:
        raise Reject
    places = [maker.integer(0, x.shape[-1] - 1) for _ in range(maker.integer(1, 4))]
    shape = (1, len(places)) if maker.chance(0.4) else (len(places),)
    maker.emit(f"{ML}.ArrayFeatureExtractor", [x, maker.given(np.array(places).reshape(shape))]
    )


@rule("FeatureVectorizer", weight=0.4)
def vectorizer(maker: Maker) -> None:
    """Tables side by side."""
    x = maker.pick(NUMBERS, (2, 2))
    if not x.data.size:
        raise Reject
    parts = [
        x,
        *(
            maker.fresh(x.dtype, [x.shape[0], maker.integer(1, 4)])
            for _ in range(maker.integer(0, 2))
        ),
    ]
    maker.emit(f"{ML}.FeatureVectorizer",
        list(parts),
        inputdimensions=[part.shape[1] for part in parts],
    )


@rule("OneHotEncoder", weight=0.5)
def one_hot(maker: Maker) -> None:
    """A row of zeros and at most one 1 for each element."""
    x = maker.pick((*NUMBERS, "string"), (1, 3))
    if not x.data.size or x.data.size > 200:
        raise Reject
    categories: dict[str, Any] = {"cats_int64s": [0, 1, 2, -1, 5]}
    if x.dtype == "string":
        categories = {"cats_strings": ["a", "b", "monday", ""]}
    maker.emit(f"{ML}.OneHotEncoder", [x], zeros=1, **categories)


_KEYS: dict[str, tuple[str, list[Any]]] = {
    "i64": ("keys_int64s", [0, 1, -1, 2, 5]),
    "string": ("keys_strings", ["a", "b", "", "Monday"]),
    "f32": ("keys_floats", [0.0, 1.0, -1.0, 2.0]),
}
_VALUES: dict[str, tuple[str, list[Any], str, Any]] = {
    "i64": ("values_int64s", [3, -4, 9, 0, 7], "default_int64", -7),
    "string": ("values_strings", ["p", "", "q", "r", "s"], "default_string", "none"),
    "f32": ("values_floats", [0.5, -1.5, 2.25, 0.0, 8.0], "default_float", 0.125),
}


@rule("LabelEncoder", weight=0.8)
def labels(maker: Maker) -> None:
    """One kind of label for another; what is not known becomes the default."""
    x = maker.pick(tuple(_KEYS), (0, 4))
    if x.dtype == "f32" and maker.chance(0.8):
        x = maker.emit(f"{ML}.Round", [x])[0]
    name, keys = _KEYS[x.dtype]
    to = maker.choose(*_VALUES)
    target, values, other, default = _VALUES[to]
    count = maker.integer(1, len(keys))
    given: dict[str, Any] = {name: keys[:count], target: values[:count]}
    if maker.chance(0.6):
        given[other] = default
    maker.emit(f"{ML}.LabelEncoder", [x], **given)


@rule("CategoryMapper", weight=0.3)
def categories(maker: Maker) -> None:
    """Strings to numbers or back."""
    x = maker.pick(("i64", "string"), (0, 3))
    maker.emit(f"{ML}.CategoryMapper",
        [x],
        cats_strings=["a", "b", "Monday"],
        cats_int64s=[0, 1, 5],
        default_int64=-3,
        default_string="?",
    )
