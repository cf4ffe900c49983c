"""LinearAttention and CausalConvWithState, which the standard took over."""

from bessemer.frontends.onnx.contrib.table import Draft, contrib
from bessemer.ir.graph import Value


@contrib("LinearAttention", outputs=2, becomes=("LinearAttention",))
def linear_attention(
    d: Draft, q: Value, k: Value, v: Value, past: Value | None, decay: Value | None,
    beta: Value | None, *, q_num_heads: int, kv_num_heads: int, chunk_size: int = 64,
    scale: float = 0.0, state_window: int = 0, update_rule: str = "gated_delta",
) -> None:
    """The standard LinearAttention, which keeps the last state only."""
    if state_window:
        d.refuse("state_window")
    d.ops("LinearAttention", q, k, v, past, decay, beta, names=d.outputs, chunk_size=chunk_size,
          kv_num_heads=kv_num_heads, q_num_heads=q_num_heads, scale=scale, update_rule=update_rule)


@contrib("CausalConvWithState", outputs=2, becomes=("CausalConvWithState",))
def causal_convolution(
    d: Draft, x: Value, weight: Value, bias: Value | None, past: Value | None, *,
    activation: str = "none", channels_last: int = 0, dilation: int = 1, ndim: int = 1,
    state_window: int = 0,
) -> None:
    """The standard CausalConvWithState: one axis behind the channels, no dilation, one state."""
    for name, value, known in (("channels_last", channels_last, 0), ("dilation", dilation, 1),
                               ("ndim", ndim, 1), ("state_window", state_window, 0)):
        if value != known:
            d.refuse(f"{name} {value}")
    d.ops("CausalConvWithState", x, weight, bias, past, names=d.outputs, activation=activation)
