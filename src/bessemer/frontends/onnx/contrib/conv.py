"""Convolutions and pools with something fused in, quantised, or with the channels last."""

from bessemer.frontends.onnx.contrib.activation import ACTIVATIONS, activate
from bessemer.frontends.onnx.contrib.layout import from_channels_last, to_channels_last
from bessemer.frontends.onnx.contrib.table import Draft, contrib
from bessemer.ir.graph import Value


@contrib("FusedConv", becomes=("Conv", "Add", *ACTIVATIONS))
def fused_conv(
    d: Draft, x: Value, weight: Value, bias: Value | None, addend: Value | None, *,
    activation: str = "", activation_params: tuple[float, ...] = (), auto_pad: str = "NOTSET",
    dilations: tuple[int, ...] = (), group: int = 1, kernel_shape: tuple[int, ...] = (),
    pads: tuple[int, ...] = (), strides: tuple[int, ...] = (),
) -> None:
    """Activation(Conv(x) + addend)."""
    y = d.op("Conv", x, weight, bias, auto_pad=auto_pad, dilations=dilations, group=group,
              kernel_shape=kernel_shape, pads=pads, strides=strides)
    if addend is not None:
        y = d.op("Add", y, addend)
    activate(d, y, activation, tuple(activation_params), d.outputs[0])


@contrib("NhwcConv", "NhwcFusedConv", becomes=("Conv", "Add", "Transpose", *ACTIVATIONS))
def nhwc_conv(
    d: Draft, x: Value, weight: Value, bias: Value | None, addend: Value | None, *,
    activation: str = "", activation_params: tuple[float, ...] = (), auto_pad: str = "NOTSET",
    dilations: tuple[int, ...] = (), group: int = 1, kernel_shape: tuple[int, ...] = (),
    pads: tuple[int, ...] = (), strides: tuple[int, ...] = (),
) -> None:
    """Activation(Conv(x) + addend) with the channels of x, addend and y last."""
    y = d.op("Conv", from_channels_last(d, x), weight, bias, auto_pad=auto_pad, dilations=dilations,
              group=group, kernel_shape=kernel_shape, pads=pads, strides=strides)
    last = to_channels_last(d, y)
    if addend is not None:
        last = d.op("Add", last, addend)
    activate(d, last, activation, tuple(activation_params), d.outputs[0])


@contrib("QLinearConv", becomes=("QLinearConv", "Transpose"))
def qlinear_conv(
    d: Draft, x: Value, x_scale: Value, x_zero: Value, weight: Value, w_scale: Value,
    w_zero: Value, y_scale: Value, y_zero: Value, bias: Value | None, *,
    auto_pad: str = "NOTSET", channels_last: int = 0, dilations: tuple[int, ...] = (),
    group: int = 1, kernel_shape: tuple[int, ...] = (), pads: tuple[int, ...] = (),
    strides: tuple[int, ...] = (),
) -> None:
    """The standard QLinearConv, which does not know of channels that come last."""
    source = from_channels_last(d, x) if channels_last else x
    y = d.op(
        "QLinearConv", source, x_scale, x_zero, weight, w_scale, w_zero, y_scale, y_zero, bias,
        auto_pad=auto_pad, dilations=dilations, group=group, kernel_shape=kernel_shape, pads=pads,
        strides=strides, name="" if channels_last else d.outputs[0],
    )
    if channels_last:
        to_channels_last(d, y, d.outputs[0])


@contrib("NhwcMaxPool", becomes=("MaxPool", "Transpose"))
def nhwc_max_pool(
    d: Draft, x: Value, *, kernel_shape: tuple[int, ...], auto_pad: str = "NOTSET",
    ceil_mode: int = 0, dilations: tuple[int, ...] = (), pads: tuple[int, ...] = (),
    strides: tuple[int, ...] = (),
) -> None:
    """MaxPool of a tensor with the channels last."""
    y = d.op("MaxPool", from_channels_last(d, x), kernel_shape=kernel_shape, auto_pad=auto_pad,
             ceil_mode=ceil_mode, dilations=dilations, pads=pads, strides=strides)
    to_channels_last(d, y, d.outputs[0])


@contrib("ConvTransposeWithDynamicPads", becomes=("ConvTranspose",))
def conv_transpose_with_pads(
    d: Draft, x: Value, weight: Value, pads: Value | None, bias: Value | None, *,
    auto_pad: str = "NOTSET", dilations: tuple[int, ...] = (), group: int = 1,
    kernel_shape: tuple[int, ...] = (), output_padding: tuple[int, ...] = (),
    strides: tuple[int, ...] = (),
) -> None:
    """ConvTranspose whose pads are an input; they must be known."""
    known: tuple[int, ...] = ()
    if pads is not None:
        if pads.constant is None:
            d.refuse("pads that are computed at run time")
        known = tuple(int(pad) for pad in pads.constant.reshape(-1))
    d.op("ConvTranspose", x, weight, bias, auto_pad=auto_pad, dilations=dilations, group=group,
         kernel_shape=kernel_shape, output_padding=output_padding, pads=known, strides=strides,
         name=d.outputs[0])
