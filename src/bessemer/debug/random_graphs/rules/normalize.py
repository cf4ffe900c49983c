"""Normalisations."""

from bessemer.debug.random_graphs.maker import FLOATS, Maker, rule
from bessemer.debug.random_graphs.values import Reject


@rule("BatchNormalization", "InstanceNormalization", weight=1.3)
def channels(maker: Maker) -> None:
    """Per channel, with given or own statistics."""
    x = maker.pick(FLOATS, (2, 5))
    if not x.data.size:
        raise Reject
    c = x.shape[1]
    scale, bias = maker.fresh(x.dtype, [c]), maker.fresh(x.dtype, [c])
    attributes = {"epsilon": maker.choose(1e-5, 1e-3, 0.1)} if maker.chance(0.5) else {}
    if maker.chance(0.6):
        mean = maker.fresh(x.dtype, [c])
        variance = maker.fresh(x.dtype, [c], low=0.1, high=3.0)
        maker.emit("BatchNormalization", [x, scale, bias, mean, variance], **attributes)
    elif x.rank >= 3:
        maker.emit("InstanceNormalization", [x, scale, bias], **attributes)


@rule("LayerNormalization", "RMSNormalization", weight=1.5)
def trailing(maker: Maker) -> None:
    """Over the last axes; LayerNormalization may give mean and deviation."""
    x = maker.pick(FLOATS, (1, 4))
    if not x.data.size:
        raise Reject
    axis = maker.axis(x.rank)
    shape = x.shape[axis % x.rank:]
    scale = maker.fresh(x.dtype, shape)
    attributes = {"axis": axis, "epsilon": maker.choose(1e-5, 1e-2)}
    if maker.chance(0.3):
        maker.emit("RMSNormalization", [x, scale], **attributes)
        return
    bias = maker.fresh(x.dtype, shape) if maker.chance(0.6) else None
    maker.emit("LayerNormalization", [x, scale, bias], outputs=maker.choose(1, 1, 1, 3),
               **attributes)


@rule("GroupNormalization", weight=0.7)
def group(maker: Maker) -> None:
    """Over groups of channels."""
    x = maker.pick(FLOATS, (3, 5))
    c = x.shape[1]
    if not x.data.size or maker.opset < 21:
        raise Reject
    groups = maker.random.choice([d for d in range(1, c + 1) if c % d == 0])
    maker.emit("GroupNormalization", [x, maker.fresh(x.dtype, [c]), maker.fresh(x.dtype, [c])],
               num_groups=groups, epsilon=maker.choose(1e-5, 1e-2))


@rule("LRN", weight=0.7)
def local_response(maker: Maker) -> None:
    """Over neighbouring channels."""
    x = maker.pick(FLOATS, (3, 5))
    if not x.data.size:
        raise Reject
    maker.emit("LRN", [x], size=maker.choose(1, 3, 5), alpha=maker.choose(1e-4, 0.5),
               beta=maker.choose(0.75, 0.5), bias=maker.choose(1.0, 2.0))


@rule("LpNormalization", "MeanVarianceNormalization", weight=0.5)
def norms(maker: Maker) -> None:
    """To norm 1, or to mean 0 and variance 1."""
    if maker.chance(0.5):
        x = maker.pick(("f32", "f64"), (1, 4))
        maker.emit("LpNormalization", [x], axis=maker.axis(x.rank), p=maker.integer(1, 2))
    else:
        x = maker.fresh(FLOATS, rank=(4, 4))
        maker.emit("MeanVarianceNormalization", [x], axes=sorted(
            a % 4 for a in maker.axes(4, 1)))
