"""Element-wise nodes: functions, arithmetic with broadcasting, comparisons, bits, casts."""

from typing import Any

import numpy as np

from bessemer.core.dtypes import DTYPES
from bessemer.debug.random_graphs.data import fits_type
from bessemer.debug.random_graphs.maker import ALL, FLOATS, INTEGERS, NUMBERS, SIGNED, Maker, rule
from bessemer.debug.random_graphs.models import onnx_dtype
from bessemer.debug.random_graphs.values import Reject, Value

_ANYWHERE = ("Sin", "Cos", "Tanh", "Sigmoid", "Softplus", "Softsign", "Erf", "Exp", "Atan",
             "Asinh", "Floor", "Ceil", "Round", "Relu", "Mish", "HardSwish", "Sinh", "Cosh",
             "Elu", "Selu", "LeakyRelu", "ThresholdedRelu", "HardSigmoid", "Celu", "Shrink",
             "Gelu", "Swish", "IsNaN", "IsInf", "Tan")
_RANGES = {"Acos": (-1.0, 1.0), "Asin": (-1.0, 1.0), "Atanh": (-0.95, 0.95), "Acosh": (1.0, 50.0),
           "Log": (1e-4, 1e6), "Sqrt": (0.0, 1e6), "Reciprocal": (1e-2, 1e4)}


def _attributes(maker: Maker, op: str) -> dict[str, Any]:
    number = round(maker.random.uniform(0.05, 1.5), 3)
    match op:
        case "Elu" | "LeakyRelu" | "ThresholdedRelu" | "Celu" | "Swish" if maker.chance(0.6):
            return {"alpha": number}
        case "Selu" if maker.chance(0.4):
            return {"alpha": 1.0 + number, "gamma": number}
        case "HardSigmoid" if maker.chance(0.6):
            return {"alpha": number, "beta": round(maker.random.uniform(0, 1), 3)}
        case "Shrink":
            return {"lambd": number, "bias": maker.choose(0.0, 0.25)}
        case "Gelu":
            return {"approximate": maker.choose("none", "tanh")}
        case "IsInf" if maker.chance(0.5):
            return {"detect_negative": maker.integer(0, 1), "detect_positive": maker.integer(0, 1)}
    return {}


@rule("unary", weight=14)
def unary(maker: Maker) -> None:
    """A function of one float tensor."""
    op = maker.random.choice((*_ANYWHERE, *_RANGES))
    if op not in _RANGES:
        maker.emit(op, [maker.pick(FLOATS)], **_attributes(maker, op))
        return
    low, high = _RANGES[op]
    if maker.chance(0.1):
        maker.emit(op, [maker.pick(FLOATS)])
        return

    def fits(value: Value) -> bool:
        wide = value.data.astype(np.float64)
        return wide.size > 0 and bool(wide.min() >= low and wide.max() <= high)

    try:
        value = maker.pick(FLOATS, where=fits, new=0.0)
    except Reject:
        value = into_range(maker, maker.pick(FLOATS), low, min(high, 100.0))
    maker.emit(op, [value])


def into_range(maker: Maker, value: Value, low: float, high: float) -> Value:
    """The value limited by Clip, or moved there by Abs or Sigmoid."""
    numpy = DTYPES[value.dtype].numpy
    return maker.emit("Clip", [value, maker.given(np.asarray(low, numpy), True),
                               maker.given(np.asarray(high, numpy), True)])[0]


@rule("Abs", "Neg", "Sign", weight=0.5)
def any_number(maker: Maker) -> None:
    """Functions of every number type."""
    maker.emit(maker.choose("Abs", "Neg", "Sign", "Relu"), [maker.pick(NUMBERS)])


@rule("Add", "Sub", "Mul", weight=3)
def arithmetic(maker: Maker) -> None:
    """Two tensors of one type that broadcast."""
    a = maker.pick(NUMBERS)
    pair = [a, maker.partner(a)]
    if maker.chance(0.5):
        pair.reverse()
    maker.emit(maker.choose("Add", "Sub", "Mul"), pair)


def nonzero_partner(maker: Maker, a: Value) -> Value:
    """A partner without zeros: integer division by zero is undefined."""
    if a.dtype in INTEGERS:
        b = maker.partner(a, low=1, high=7)
    else:
        b = maker.partner(a)
    if a.dtype in INTEGERS or not maker.hard:
        small = 0.5 if a.dtype in INTEGERS else 1e-2
        if b.data.size and np.abs(b.data.astype(np.float64)).min() < small:
            raise Reject
    return b


@rule("Div", weight=2)
def division(maker: Maker) -> None:
    """Division of floats, or of integers with remainders of both signs."""
    a = maker.pick(NUMBERS)
    b = nonzero_partner(maker, a)
    if a.dtype in SIGNED and maker.chance(0.4):
        b = maker.emit("Neg", [b])[0]
        info = np.iinfo(a.data.dtype)
        if a.data.size and a.data.min() == info.min:
            raise Reject
    maker.emit("Div", [a, b])


@rule("Mod", weight=1.5)
def modulo(maker: Maker) -> None:
    """Remainders of both conventions."""
    a = maker.pick(NUMBERS)
    b = nonzero_partner(maker, a)
    fmod = 1 if a.dtype in FLOATS else maker.integer(0, 1)
    if a.dtype in SIGNED and maker.chance(0.4):
        b = maker.emit("Neg", [b])[0]
    maker.emit("Mod", [a, b], fmod=fmod)


@rule("Pow", weight=1.5)
def power(maker: Maker) -> None:
    """Powers that are defined: a base above 0, or an exponent that is whole."""
    a = maker.pick(("f32", "f64", "f16", "bf16", "i32", "i64"))
    if maker.chance(0.5):
        kind = maker.choose(a.dtype, "f32", "i64", "i32")
        power_ = np.asarray(maker.choose(0, 1, 2, 2, 3), DTYPES[kind].numpy)
        maker.emit("Pow", [a, maker.given(power_)])
        return
    if a.dtype not in FLOATS:
        raise Reject
    base = into_range(maker, a, 0.1, 10.0)
    maker.emit("Pow", [base, maker.partner(base, low=-2, high=2.5)])


@rule("Max", "Min", "Sum", "Mean", weight=1)
def variadic(maker: Maker) -> None:
    """One to four tensors that broadcast with each other."""
    op = maker.choose("Max", "Min", "Sum", "Mean")
    a = maker.pick(NUMBERS if op in ("Max", "Min") else FLOATS)
    values = [a, *(maker.partner(a) for _ in range(maker.integer(0, 3)))]
    maker.random.shuffle(values)
    maker.emit(op, values)


@rule("Clip", weight=1.5)
def clip(maker: Maker) -> None:
    """Limits from both sides, one, or none."""
    x = maker.pick(NUMBERS)
    numpy = DTYPES[x.dtype].numpy
    low = maker.given(np.asarray(maker.integer(0, 1) if x.dtype[0] == "u" else
                                 maker.random.randint(-2, 1)).astype(numpy))
    high = maker.given(np.asarray(maker.integer(1, 5)).astype(numpy))
    maker.emit("Clip", [x, maker.choose(low, low, None), maker.choose(high, high, None)])


@rule("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual", weight=0.7)
def comparison(maker: Maker) -> None:
    """Comparisons; Equal of bools too."""
    op = maker.choose("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual")
    a = maker.pick(ALL if op == "Equal" else NUMBERS)
    maker.emit(op, [a, maker.partner(a)])


def condition(maker: Maker) -> Value:
    """A bool tensor: one of the graph, or a comparison."""
    if maker.chance(0.5):
        try:
            return maker.pick("bool", where=lambda value: True, new=0.0)
        except Reject:
            pass
    a = maker.pick(NUMBERS)
    return maker.emit(maker.choose("Less", "Greater"), [a, maker.partner(a)])[0]


@rule("And", "Or", "Xor", "Not", weight=0.5)
def logic(maker: Maker) -> None:
    """Logic of bools."""
    a = condition(maker)
    op = maker.choose("And", "Or", "Xor", "Not")
    maker.emit(op, [a] if op == "Not" else [a, maker.partner(a)])


@rule("Where", weight=3)
def where(maker: Maker) -> None:
    """A choice between two tensors; all three broadcast."""
    a = maker.pick(ALL)
    test = maker.partner(a, "bool") if maker.chance(0.5) else condition(maker)
    maker.emit("Where", [test, a, maker.partner(a)])


@rule("BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot", weight=0.35)
def bits(maker: Maker) -> None:
    """Operations on the bits of integers."""
    a = maker.pick(INTEGERS)
    op = maker.choose("BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot")
    maker.emit(op, [a] if op == "BitwiseNot" else [a, maker.partner(a)])


@rule("BitShift", weight=0.8)
def shift(maker: Maker) -> None:
    """Shifts of unsigned integers by less than their width."""
    a = maker.pick(("u8", "u16", "u32", "u64"))
    maker.emit("BitShift", [a, maker.partner(a, low=0, high=7)],
               direction=maker.choose("LEFT", "RIGHT"))


@rule("PRelu", weight=0.8)
def prelu(maker: Maker) -> None:
    """A slope that broadcasts to x."""
    x = maker.pick((*FLOATS, "i32", "i64"))
    shape = [1 if maker.chance(0.4) else dim for dim in x.shape][maker.integer(0, x.rank):]
    maker.emit("PRelu", [x, maker.fresh(x.dtype, shape)])


@rule("Cast", weight=4)
def cast(maker: Maker) -> None:
    """A change of element type that is defined."""
    x = maker.pick(ALL)
    to = maker.dtype(ALL)
    if not fits_type(x.data, to):
        raise Reject
    if maker.chance(0.2):
        maker.emit("CastLike", [x, maker.pick(to)])
        return
    maker.emit("Cast", [x], to=onnx_dtype(to))


@rule("BitCast", weight=0.3)
def bit_cast(maker: Maker) -> None:
    """The same bits as another type of the same width."""
    pairs = {"f32": "i32", "i32": "u32", "u32": "i32", "i64": "u64", "f64": "i64", "i8": "u8",
             "u8": "i8", "f16": "i16", "bf16": "u16", "i16": "u16", "u64": "i64"}
    x = maker.pick(tuple(pairs))
    maker.emit("BitCast", [x], to=onnx_dtype(pairs[x.dtype]))


@rule("Dropout", "Identity", weight=0.4)
def nothing(maker: Maker) -> None:
    """Nodes that change nothing."""
    if maker.chance(0.5):
        maker.emit("Identity", [maker.pick(ALL)])
    else:
        maker.emit("Dropout", [maker.pick(FLOATS)], outputs=maker.integer(1, 2))


@rule("SwiGLU", weight=0.3)
def swiglu(maker: Maker) -> None:
    """A gated activation."""
    maker.emit("SwiGLU", [maker.pick(FLOATS, (1, 4))])
