"""Nodes that move elements: views, slices, pads, joins, blocks."""

import numpy as np

from bessemer.debug.random_graphs.maker import ALL, NUMBERS, Maker, factorised, rule
from bessemer.debug.random_graphs.models import onnx_dtype
from bessemer.debug.random_graphs.values import Reject, Value


@rule("Transpose", weight=4)
def transpose(maker: Maker) -> None:
    """Axes in another order."""
    x = maker.pick(ALL)
    order = list(range(x.rank))
    maker.random.shuffle(order)
    maker.emit("Transpose", [x], perm=None if maker.chance(0.2) else order)


@rule("Reshape", weight=4)
def reshape(maker: Maker) -> None:
    """The same elements in other extents; 0 and -1 in the shape at times."""
    x = maker.pick(ALL)
    shape = factorised(maker.random, x.data.size, maker.integer(0 if x.data.size == 1 else 1, 5))
    if x.data.size and maker.chance(0.3) and shape:
        shape[maker.random.randrange(len(shape))] = -1
    if x.data.size and maker.chance(0.3):
        shape = [0 if i < x.rank and dim == x.shape[i] else dim for i, dim in enumerate(shape)]
    attributes = {"allowzero": 1} if not x.data.size and maker.opset >= 14 else {}
    maker.emit("Reshape", [x, maker.ints(shape)], **attributes)


@rule("Squeeze", "Unsqueeze", "Flatten", weight=1.2)
def ranks(maker: Maker) -> None:
    """Axes of one element come and go."""
    x = maker.pick(ALL)
    match maker.choose("Squeeze", "Unsqueeze", "Flatten"):
        case "Squeeze":
            ones = [i for i, dim in enumerate(x.shape) if dim == 1]
            chosen = maker.random.sample(ones, maker.integer(min(1, len(ones)), len(ones)))
            given = None if maker.chance(0.3) or not chosen else maker.ints(chosen)
            maker.emit("Squeeze", [x, given])
        case "Unsqueeze":
            count = maker.integer(1, 2)
            rank = x.rank + count
            if rank > 6:
                raise Reject
            chosen = maker.random.sample(range(rank), count)
            maker.emit("Unsqueeze", [x, maker.ints(
                [a - rank if maker.chance(0.3) else a for a in chosen])])
        case _:
            maker.emit("Flatten", [x], axis=maker.integer(-x.rank, x.rank))


@rule("Expand", "Tile", weight=1.2)
def repeats(maker: Maker) -> None:
    """Elements repeated."""
    x = maker.pick(ALL, (0, 4))
    if maker.chance(0.5):
        shape = [maker.integer(1, 4) if dim == 1 else maker.choose(dim, 1) for dim in x.shape]
        if maker.chance(0.3):
            shape = [maker.integer(1, 3), *shape]
        maker.emit("Expand", [x, maker.ints(shape)])
    else:
        counts = [maker.choose(1, 1, 2, 3, 0 if maker.chance(0.05) else 2) for _ in x.shape]
        maker.emit("Tile", [x, maker.ints(counts)])


@rule("Concat", weight=4)
def concat(maker: Maker) -> None:
    """Tensors joined along an axis."""
    x = maker.pick(ALL, (1, 5))
    axis = maker.axis(x.rank)

    def joins(value: Value) -> bool:
        if value.dtype != x.dtype or value.rank != x.rank:
            return False
        a, b = list(x.shape), list(value.shape)
        del a[axis], b[axis]
        return a == b

    parts = [x]
    for _ in range(maker.integer(0, 3)):
        known = [value for value in maker.values if joins(value)]
        if known and maker.chance(0.7):
            parts.append(maker.random.choice(known))
        else:
            shape = list(x.shape)
            shape[axis] = maker.integer(1, 4)
            parts.append(maker.fresh(x.dtype, shape))
    maker.random.shuffle(parts)
    maker.emit("Concat", parts, axis=axis)


@rule("Split", weight=2)
def split(maker: Maker) -> None:
    """A tensor cut into parts, equal or not, some of them empty."""
    x = maker.pick(ALL, (1, 5))
    axis = maker.axis(x.rank)
    extent = x.shape[axis]
    count = maker.integer(1, 4)
    if maker.chance(0.5):
        cuts = sorted(maker.integer(0, extent) for _ in range(count - 1))
        sizes = [b - a for a, b in zip([0, *cuts], [*cuts, extent], strict=True)]
        maker.emit("Split", [x, maker.ints(sizes, open_=0)], outputs=count, axis=axis)
    elif maker.opset >= 18 and -(-extent // count) * (count - 1) < extent:
        maker.emit("Split", [x], outputs=count, axis=axis, num_outputs=count)
    else:
        raise Reject


@rule("Slice", weight=4)
def slice_(maker: Maker) -> None:
    """Ranges with steps of both signs and bounds beyond the ends."""
    x = maker.pick(ALL, (1, 5))
    axes = maker.axes(x.rank, 1)
    starts, ends, steps = [], [], []
    for axis in axes:
        extent = x.shape[axis]
        step = maker.choose(1, 1, 1, 2, 3, -1, -1, -2, 100)
        a, b = maker.integer(-extent - 2, extent + 2), maker.integer(-extent - 2, extent + 2)
        if maker.chance(0.7):
            a, b = (0, extent) if step > 0 else (-1, -extent - 1)
            a += maker.integer(0, extent // 2) * (1 if step > 0 else -1)
        if maker.chance(0.15):
            b = (1 << 62) if step > 0 else -(1 << 62)
        starts.append(a)
        ends.append(b)
        steps.append(step)
    given: list[Value | None] = [maker.ints(starts), maker.ints(ends), maker.ints(axes, open_=0)]
    if maker.chance(0.7) or any(step != 1 for step in steps):
        given.append(maker.ints(steps, open_=0))
    maker.emit("Slice", [x, *given])


@rule("Pad", weight=3)
def pad(maker: Maker) -> None:
    """Borders of all modes; negative ones cut."""
    x = maker.pick(NUMBERS if maker.chance(0.9) else ALL, (1, 5))
    mode = maker.choose("constant", "constant", "edge", "reflect", "wrap")
    if mode != "constant" and not x.data.size:
        raise Reject
    axes = maker.axes(x.rank, 1) if maker.opset >= 18 and maker.chance(0.3) else None
    chosen = [axis % x.rank for axis in axes] if axes else list(range(x.rank))

    def amount(extent: int) -> int:
        if maker.chance(0.4):
            return 0
        if maker.chance(0.12):
            return -maker.integer(0, extent // 2)
        return maker.integer(0, {"constant": 3, "edge": 3, "reflect": max(extent - 1, 0),
                                 "wrap": extent}[mode])

    pads = [amount(x.shape[axis]) for _ in range(2) for axis in chosen]
    low = mode != "constant" and any(p < 0 for p in pads)
    if low and maker.chance(0.8):
        raise Reject
    value = maker.fresh(x.dtype, []) if mode == "constant" and maker.chance(0.5) else None
    maker.emit("Pad", [x, maker.ints(pads), value, maker.ints(axes, open_=0) if axes else None],
               **({} if mode == "constant" and maker.chance(0.5) else {"mode": mode}))


@rule("Shape", "Size", weight=0.8)
def shapes(maker: Maker) -> None:
    """Extents as data."""
    x = maker.pick(ALL, new=0.0)
    if maker.chance(0.2):
        maker.emit("Size", [x])
        return
    bounds = {"start": maker.integer(-x.rank - 1, x.rank),
              "end": maker.integer(-x.rank, x.rank + 1)}
    maker.emit("Shape", [x], **(bounds if maker.opset >= 15 and maker.chance(0.5) else {}))


@rule("ShapeChain", weight=1.5)
def shape_chain(maker: Maker) -> None:
    """What exporters write for a view: Shape, Gather, Concat, Reshape."""
    x = maker.pick(ALL, (2, 4))
    if not x.data.size:
        raise Reject
    extents = maker.emit("Shape", [x])[0]
    first = maker.emit("Gather", [extents, maker.ints([0], open_=0)], axis=0)[0]
    if maker.chance(0.3):
        first = maker.emit("Mul", [first, maker.ints([1])])[0]
    shape = maker.emit("Concat", [first, maker.ints([-1], open_=0)], axis=0)[0]
    maker.emit("Reshape", [x, shape])


@rule("DepthToSpace", "SpaceToDepth", weight=0.6)
def blocks(maker: Maker) -> None:
    """Channels to pixels and back."""
    block = maker.integer(1, 3)
    if maker.chance(0.5):
        x = maker.pick(ALL, (4, 4), lambda v: v.shape[1] % block**2 == 0 and bool(v.data.size)) \
            if maker.chance(0.5) else maker.fresh(shape=[1, block**2 * 2, 2, 3])
        maker.emit("DepthToSpace", [x], blocksize=block, mode=maker.choose("DCR", "CRD"))
    else:
        x = maker.fresh(shape=[maker.integer(1, 2), 2, 2 * block, 3 * block])
        maker.emit("SpaceToDepth", [x], blocksize=block)


@rule("Trilu", "EyeLike", weight=0.5)
def triangles(maker: Maker) -> None:
    """Triangles and diagonals."""
    if maker.chance(0.7):
        x = maker.pick(ALL, (2, 4))
        k = maker.ints([maker.integer(-3, 3)], open_=0).data.reshape(())
        given = maker.given(k, True) if maker.chance(0.6) else None
        maker.emit("Trilu", [x, given], upper=maker.integer(0, 1))
    else:
        x = maker.pick(("f32", "f64", "i32", "i64", "u8"), (2, 2))
        attributes = {"dtype": onnx_dtype(maker.choose("f32", "i64"))} if maker.chance(0.4) else {}
        maker.emit("EyeLike", [x], k=maker.integer(-2, 2), **attributes)


@rule("ReverseSequence", weight=0.5)
def reverse_sequence(maker: Maker) -> None:
    """The first steps of every sequence reversed."""
    x = maker.pick(ALL, (2, 4))
    time, batch = maker.choose((0, 1), (1, 0))
    lengths = maker.fresh("i64", [x.shape[batch]], low=min(1, x.shape[time]), high=x.shape[time])
    maker.emit("ReverseSequence", [x, lengths], time_axis=time, batch_axis=batch)


@rule("CenterCropPad", weight=0.5)
def crop_pad(maker: Maker) -> None:
    """Cut or padded around the middle."""
    x = maker.pick(NUMBERS, (1, 4))
    axes = maker.axes(x.rank, 1)
    sizes = [maker.integer(1, x.shape[axis] + 3) for axis in axes]
    maker.emit("CenterCropPad", [x, maker.ints(sizes)], axes=axes)


@rule("ConstantOfShape", "Range", weight=0.6)
def creation(maker: Maker) -> None:
    """Tensors from parameters."""
    if maker.chance(0.5):
        shape = [maker.integer(1, 4) for _ in range(maker.integer(0, 3))]
        value = maker.choose(None, np.array([1.5], np.float32), np.array([3], np.int64),
                             np.array([True]), np.array([2], np.uint8))
        maker.emit("ConstantOfShape", [maker.ints(shape)], value=value)
        return
    dtype = maker.choose("f32", "i64", "i32", "f64")
    delta = maker.choose(1, 2, 3, -1, -2)
    start = maker.integer(-3, 3)
    limit = start + delta * maker.integer(0, 9)
    numbers = [maker.given(np.asarray(n, {"f32": np.float32, "f64": np.float64, "i32": np.int32}
                                      .get(dtype, np.int64)), not maker.chance(0.15))
               for n in (start, limit, delta)]
    maker.emit("Range", list(numbers))
