"""Reads and writes at computed places."""

import math

import numpy as np

from bessemer.debug.random_graphs.maker import ALL, FLOATS, NUMBERS, Maker, rule
from bessemer.debug.random_graphs.values import Reject, Value


def indices(maker: Maker, shape: list[int], extent: int, negative: bool = True) -> Value:
    """Places along an axis of that extent."""
    if extent <= 0:
        raise Reject
    dtype = maker.choose("i64", "i64", "i32")
    return maker.fresh(dtype, shape, low=-extent if negative and maker.chance(0.4) else 0,
                       high=extent - 1)


@rule("Gather", weight=4)
def gather(maker: Maker) -> None:
    """Slices at indices of any rank."""
    x = maker.pick(ALL, (1, 4))
    axis = maker.axis(x.rank)
    shape = [maker.integer(1, 4) for _ in range(maker.choose(0, 1, 1, 2))]
    maker.emit("Gather", [x, indices(maker, shape, x.shape[axis])],
               **({} if axis == 0 and maker.chance(0.5) else {"axis": axis}))


@rule("GatherElements", weight=1.5)
def gather_elements(maker: Maker) -> None:
    """One element for each index."""
    x = maker.pick(ALL, (1, 4))
    axis = maker.axis(x.rank) % x.rank
    shape = [maker.integer(min(1, dim), dim) for dim in x.shape]
    shape[axis] = maker.integer(1, 5)
    maker.emit("GatherElements", [x, indices(maker, shape, x.shape[axis])], axis=axis)


def index_tuples(maker: Maker, shape: list[int], extents: list[int]) -> Value:
    """Index tuples into those extents, i64 [*shape, len(extents)]."""
    if not all(extents):
        raise Reject
    rng = np.random.default_rng(maker.random.getrandbits(32))
    columns = [rng.integers(-n if maker.chance(0.2) else 0, n, shape) for n in extents]
    return maker.given(np.stack(columns, -1).astype(np.int64))


@rule("GatherND", weight=1)
def gather_nd(maker: Maker) -> None:
    """Slices at index tuples, with batch axes."""
    x = maker.pick(ALL, (1, 5))
    batch = maker.integer(0, min(1, x.rank - 1)) if maker.chance(0.4) else 0
    depth = maker.integer(1, x.rank - batch)
    shape = [*x.shape[:batch], *(maker.integer(1, 4) for _ in range(maker.integer(0, 2)))]
    tuples = index_tuples(maker, shape, list(x.shape[batch : batch + depth]))
    maker.emit("GatherND", [x, tuples], batch_dims=batch)


@rule("ScatterElements", weight=1.5)
def scatter_elements(maker: Maker) -> None:
    """Writes of single elements; equal places only where the order does not matter."""
    x = maker.pick(NUMBERS, (1, 4))
    axis = maker.axis(x.rank) % x.rank
    if not x.data.size:
        raise Reject
    reduction = maker.choose("none", "none", "add", "mul", "max", "min")
    if maker.opset < 18 and reduction != "none":
        raise Reject
    shape = [maker.integer(1, dim) for dim in x.shape]
    extent = x.shape[axis]
    if reduction == "none":
        rng = np.random.default_rng(maker.random.getrandbits(32))
        lanes = np.argsort(rng.random([*shape[:axis], *shape[axis + 1:], extent]), -1)
        places = maker.given(np.moveaxis(lanes[..., : shape[axis]], -1, axis).astype(np.int64))
    else:
        places = indices(maker, shape, extent)
    updates = maker.fresh(x.dtype, shape)
    attributes = {} if reduction == "none" else {"reduction": reduction}
    maker.emit("ScatterElements", [x, places, updates], axis=axis, **attributes)


@rule("ScatterND", weight=1.5)
def scatter_nd(maker: Maker) -> None:
    """Writes of slices at index tuples."""
    x = maker.pick(NUMBERS, (1, 4))
    depth = maker.integer(1, x.rank)
    heads = list(x.shape[:depth])
    count = math.prod(heads)
    reduction = maker.choose("none", "none", "add", "mul", "max", "min")
    if not count or (maker.opset < 18 and reduction != "none"):
        raise Reject
    number = maker.integer(1, min(count, 5))
    if reduction == "none":
        flat = maker.random.sample(range(count), number)
        tuples = maker.given(np.stack(np.unravel_index(flat, heads), -1).astype(np.int64))
    else:
        tuples = index_tuples(maker, [number], heads)
    updates = maker.fresh(x.dtype, [number, *x.shape[depth:]])
    attributes = {} if reduction == "none" else {"reduction": reduction}
    maker.emit("ScatterND", [x, tuples, updates], **attributes)


@rule("OneHot", weight=1)
def one_hot(maker: Maker) -> None:
    """Indices as rows of zeros and a one."""
    depth = maker.integer(1, 6)
    kind = maker.choose("i64", "i64", "i32")
    places = maker.fresh(kind, low=-depth - 1 if maker.chance(0.3) else 0, high=depth, rank=(0, 3))
    values = maker.fresh(maker.choose("f32", "i64", "i32"), [2])
    maker.emit("OneHot", [places, maker.given(np.asarray(depth, np.int64), True), values],
               axis=maker.integer(-places.rank - 1, places.rank))


@rule("Compress", "NonZero", "Unique", weight=0.5)
def selection(maker: Maker) -> None:
    """Results whose extents depend on data."""
    match maker.choose("Compress", "NonZero", "Unique"):
        case "Compress":
            x = maker.pick(ALL, (1, 4))
            axis = maker.axis(x.rank) if maker.chance(0.7) else None
            extent = x.shape[axis] if axis is not None else x.data.size
            test = maker.fresh("bool", [maker.integer(min(1, extent), extent)])
            maker.emit("Compress", [x, test], axis=axis)
        case "NonZero":
            maker.emit("NonZero", [maker.pick(("f32", "i64", "i32", "u8", "bool"), (1, 4))])
        case _:
            x = maker.pick(("f32", "f64", "i64", "i8"), (1, 4))
            if not x.data.size:
                raise Reject
            axis = maker.axis(x.rank) if maker.chance(0.5) else None
            maker.emit("Unique", [x], outputs=maker.integer(1, 4), axis=axis,
                       sorted=maker.integer(0, 1))


@rule("NonMaxSuppression", weight=0.3)
def suppression(maker: Maker) -> None:
    """Boxes that do not overlap better ones."""
    boxes, classes, count = maker.integer(1, 8), maker.integer(1, 2), maker.integer(1, 2)
    rng = np.random.default_rng(maker.random.getrandbits(32))
    corner = rng.uniform(0, 5, (count, boxes, 2))
    data = np.concatenate([corner, corner + rng.uniform(0.5, 4, corner.shape)], -1)
    given = [maker.given(data.astype(np.float32)),
             maker.fresh("f32", [count, classes, boxes], low=0, high=1),
             maker.ints([maker.integer(1, 5)]),
             maker.given(np.array([0.3], np.float32)), maker.given(np.array([0.2], np.float32))]
    maker.emit("NonMaxSuppression", list(given), center_point_box=maker.integer(0, 1))


@rule("TensorScatter", weight=0.3)
def tensor_scatter(maker: Maker) -> None:
    """A cache updated at positions of each row."""
    x = maker.fresh(FLOATS, rank=(3, 4))
    if not x.data.size:
        raise Reject
    length = x.shape[-2]
    new = maker.integer(1, length)
    update = maker.fresh(x.dtype, [*x.shape[:-2], new, x.shape[-1]])
    write = maker.fresh("i64", [x.shape[0]], low=0, high=length - new)
    maker.emit("TensorScatter", [x, update, write], axis=-2)
