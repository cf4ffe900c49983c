"""Matrix products with something fused in: FusedMatMul, FusedGemm; and MatMulInteger16."""

from bessemer.core.dtypes import i32
from bessemer.frontends.onnx.contrib.activation import ACTIVATIONS, activate
from bessemer.frontends.onnx.contrib.table import Draft, contrib
from bessemer.ir.graph import Value


def _operand(d: Draft, x: Value, transposed: int, batch: int) -> Value:
    """A factor as [*batch, rows, columns]: `batch` says that the rows stand before the batch."""
    if not transposed and not batch:
        return x
    rank = d.type(x).rank
    if rank < 2:
        return x
    axes = list(range(rank))
    rows, columns = (axes[0], axes[-1]) if batch else (axes[-2], axes[-1])
    others = axes[1:-1] if batch else axes[:-2]
    if transposed:
        rows, columns = columns, rows
    order = (*others, rows, columns)
    return x if order == tuple(axes) else d.transpose(x, *order)


def _product(
    d: Draft, a: Value, b: Value, alpha: float, trans_a: int, trans_b: int, batch_a: int,
    batch_b: int, name: str = "",
) -> Value:
    left, right = _operand(d, a, trans_a, batch_a), _operand(d, b, trans_b, batch_b)
    if alpha == 1:
        return d.op("MatMul", left, right, name=name)
    return d.op("Mul", d.op("MatMul", left, right), d.constant(alpha, a.tensor.dtype), name=name)


@contrib("FusedMatMul", "TransposeMatMul", becomes=("Transpose", "MatMul", "Mul"))
def fused_matmul(
    d: Draft, a: Value, b: Value, *, alpha: float = 1.0, transA: int = 0, transB: int = 0,
    transBatchA: int = 0, transBatchB: int = 0,
) -> None:
    """Alpha * a' @ b', where transBatch moves the first axis behind the batch."""
    _product(d, a, b, alpha, transA, transB, transBatchA, transBatchB, d.outputs[0])


@contrib(
    "FusedMatMulActivation", becomes=("Transpose", "MatMul", "Mul", *ACTIVATIONS)
)
def fused_matmul_activation(
    d: Draft, a: Value, b: Value, *, activation: str, activation_alpha: float | None = None,
    activation_beta: float | None = None, activation_gamma: float | None = None,
    activation_axis: int | None = None, alpha: float = 1.0, transA: int = 0, transB: int = 0,
    transBatchA: int = 0, transBatchB: int = 0,
) -> None:
    """FusedMatMul with an activation behind it."""
    if activation_gamma is not None or activation_axis is not None:
        d.refuse("activation_gamma or activation_axis")
    given = tuple(p for p in (activation_alpha, activation_beta) if p is not None)
    product = _product(d, a, b, alpha, transA, transB, transBatchA, transBatchB)
    activate(d, product, activation, given, d.outputs[0])


@contrib("FusedGemm", becomes=("Gemm", *ACTIVATIONS))
def fused_gemm(
    d: Draft, a: Value, b: Value, c: Value | None, *, activation: str = "",
    activation_alpha: float | None = None, activation_beta: float | None = None,
    activation_gamma: float | None = None, alpha: float = 1.0, beta: float = 1.0,
    transA: int = 0, transB: int = 0,
) -> None:
    """Gemm with an activation behind it."""
    if activation_gamma is not None:
        d.refuse("activation_gamma")
    given = tuple(p for p in (activation_alpha, activation_beta) if p is not None)
    product = d.op("Gemm", a, b, c, alpha=alpha, beta=beta, transA=transA, transB=transB)
    activate(d, product, activation, given, d.outputs[0])


@contrib("GemmFastGelu", becomes=("MatMul", "Add", "Gelu"))
def gemm_fast_gelu(d: Draft, x: Value, weight: Value, bias: Value | None) -> None:
    """Gelu(x @ weight + bias) with the tanh formula."""
    product = d.op("MatMul", x, weight)
    shifted = product if bias is None else d.op("Add", product, bias)
    d.op("Gelu", shifted, approximate="tanh", name=d.outputs[0])


@contrib("MatMulInteger16", becomes=("Cast", "MatMul"))
def matmul_integer16(d: Draft, a: Value, b: Value) -> None:
    """The product of 16-bit integers, summed in 32 bits."""
    d.op("MatMul", d.cast(a, i32), d.cast(b, i32), name=d.outputs[0])
