"""Weights and tables of a few bits: MatMulNBits, MatMulBnb4, GatherBlockQuantized."""

import numpy as np

from bessemer.core.dtypes import f32, i8, i32, u8
from bessemer.frontends.onnx.contrib.table import Draft, contrib
from bessemer.ir.graph import Value

_UNPACK = "bessemer.UnpackBits"


@contrib(
    "MatMulNBits", becomes=("bessemer.BlockMatMul", "bessemer.SpreadBits", _UNPACK, "Slice",
                            "Reshape", "Add")
)
def matmul_n_bits(
    d: Draft, a: Value, b: Value, scales: Value, zeros: Value | None, group_index: Value | None,
    bias: Value | None, *, K: int, N: int, block_size: int, bits: int = 4,
    accuracy_level: int = 0, weight_prepacked: int = 0,
) -> None:
    """BlockMatMul, which packs differently and has its zero points unpacked; plus a bias.

    The accuracy level allows less than f32, it does not ask for it.
    """
    if group_index is not None:
        d.refuse("group_idx")
    if weight_prepacked:
        d.refuse("weight_prepacked")
    if bits not in (2, 4, 8):
        d.refuse(f"bits {bits}")
    rows = d.constant([N, -1])
    if len(d.dims(scales, 1, 2)) == 1:
        scales = d.op("Reshape", scales, rows)
    if zeros is not None:
        if len(d.dims(zeros, 1, 2)) == 1:
            zeros = d.op("Reshape", zeros, rows)
        if not zeros.tensor.dtype.is_float and bits < 8:
            blocks = -(-K // block_size)
            zeros = d.op("Slice", d.op(_UNPACK, zeros, bits=bits), d.constant([0]),
                         d.constant([blocks]), d.constant([1]))
    packed = b if bits == 8 else d.op("bessemer.SpreadBits", b, bits=bits)
    product = d.op("bessemer.BlockMatMul", a, packed, scales, zeros, K=K, N=N, bits=bits,
                   block_size=block_size, name=d.outputs[0] if bias is None else "")
    if bias is not None:
        d.op("Add", product, bias, name=d.outputs[0])


_FP4 = [0.0, 5.208333333e-3, 2 / 3, 1.0, 1 / 3, 0.5, 1 / 6, 0.25]
_FOURS = (
    (*_FP4, *(-x for x in _FP4)),
    # The quantiles of a normal distribution: QLoRA (arXiv 2305.14314), appendix E.
    (-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
     -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
     0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
     0.7229568362236023, 1.0),
)
"""What the 16 patterns of a 4-bit float mean: FP4, NF4."""


@contrib(
    "MatMulBnb4",
    becomes=(_UNPACK, "Reshape", "Gather", "Slice", "Cast", "Pad", "Mul", "Transpose", "MatMul"),
)
def matmul_bnb4(
    d: Draft, a: Value, b: Value, largest: Value, *, K: int, N: int, block_size: int,
    quant_type: int, training_mode: int = 0, transB: int = 1,
) -> None:
    """MatMul with weights [n, k] of 4-bit floats; each block is scaled by its largest number.

    The first of two neighbours lies in the high bits.
    """
    if quant_type not in (0, 1):
        d.refuse(f"quant_type {quant_type}")
    count = N * K
    pairs = d.op("Reshape", d.op(_UNPACK, b, bits=4), d.constant([-1, 2]))
    flat = d.op("Reshape", d.op("Gather", pairs, d.constant([1, 0]), axis=1), d.constant([-1]))
    table = d.constant(np.array(_FOURS[quant_type], np.float32), f32)
    values = d.op("Gather", table, d.cast(d.op("Slice", flat, d.constant([0]),
                                               d.constant([count])), i32))
    missing = -count % block_size
    if missing:
        values = d.op("Pad", values, d.constant([0, missing]))
    scale = d.op("Reshape", d.cast(largest, f32), d.constant([-1, 1]))
    blocks = d.op("Mul", d.op("Reshape", values, d.constant([-1, block_size])), scale)
    real = d.op("Reshape", blocks, d.constant([-1]))
    if missing:
        real = d.op("Slice", real, d.constant([0]), d.constant([count]))
    weights = d.op("Reshape", d.cast(real, a.tensor.dtype), d.constant([N, K]))
    if transB:
        weights = d.transpose(weights, 1, 0)
    d.op("MatMul", a, weights, name=d.outputs[0])


@contrib(
    "GatherBlockQuantized",
    becomes=(
        "Gather", _UNPACK, "Slice", "Expand", "Shape", "DequantizeLinear", "GreaterOrEqual",
        "Less", "And", "Where", "Unsqueeze", "Cast",
    ),
)
def gather_block_quantized(
    d: Draft, data: Value, indices: Value, scales: Value, zeros: Value | None, *,
    bits: int = 4, block_size: int = 128, gather_axis: int = 0, quantize_axis: int = 1,
) -> None:
    """Rows of a quantised table as floats; an index outside of the table gives zeros."""
    dtype = data.tensor.dtype
    if dtype.is_float:
        d.refuse(f"a table of {dtype}")
    rank = d.type(data).rank
    taken, blocked = gather_axis % rank, quantize_axis % rank
    if taken == blocked:
        d.refuse("a gather_axis that is the quantize_axis")
    extent = d.size(data, taken)
    inside = d.op("And",
                  d.op("GreaterOrEqual", indices, d.constant(-extent, indices.tensor.dtype)),
                  d.op("Less", indices, d.constant(extent, indices.tensor.dtype)))
    places = d.op("Where", inside, indices, d.constant(0, indices.tensor.dtype))

    def rows_of(table: Value) -> Value:
        # Gather knows no 4-bit integers.
        wide = d.cast(table, i8 if table.tensor.dtype.kind == "int" else u8)
        return d.op("Gather", wide, places, axis=taken)

    rows, steps = rows_of(data), d.op("Gather", scales, places, axis=taken)
    offsets = None if zeros is None else rows_of(zeros)
    if dtype == u8 and bits < 8:
        rows = d.op(_UNPACK, rows, bits=bits)
        if offsets is not None:
            known = d.size(scales, rank - 1)
            offsets = d.op("Slice", d.op(_UNPACK, offsets, bits=bits), d.constant([0]),
                           d.constant([known]), d.constant([-1]))
    if offsets is None and dtype == u8:
        offsets = d.op("Expand", d.constant(1 << (bits - 1), u8), d.op("Shape", steps))
    more = d.type(indices).rank - 1
    axis = blocked + more if blocked > taken else blocked
    real = d.op("DequantizeLinear", rows, steps, offsets, axis=axis, block_size=block_size)
    behind = d.constant(range(-(rank - 1 - taken), 0))
    shown = d.op("Unsqueeze", inside, behind) if rank - 1 > taken else inside
    d.op("Where", shown, real, d.constant(0, scales.tensor.dtype), name=d.outputs[0])
