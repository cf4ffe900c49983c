"""A convolution and the depthwise convolution that alone reads it: the parts of such a kernel."""

from dataclasses import dataclass

from bessemer.core.dtypes import f32
from bessemer.core.shapes import is_static
from bessemer.lower.affine import linear
from bessemer.lower.kernel import (
    Kernel,
    axis_ranges,
    is_identity_load,
    literal_index,
    product_of_loads,
)
from bessemer.lower.loops import static
from bessemer.schedule.convolution_shape import ConvolutionShape, convolution_of
from bessemer.te.expr import Load, Reduce
from bessemer.te.tensor import Tensor
from bessemer.te.walk import loads


@dataclass(frozen=True)
class Sliding:
    """How the depthwise convolution slides along rows or columns.

    Output `o` reads the middle tensor at `o * stride + tap * dilation - pad`.
    """

    inputs: int
    outputs: int
    taps: int
    stride: int
    dilation: int
    pad: int

    def span(self, outputs: int) -> int:
        """Inputs that so many neighbouring outputs read, from the first to the last."""
        return (outputs - 1) * self.stride + (self.taps - 1) * self.dilation + 1


@dataclass(frozen=True)
class StripParts:
    """The computes of the kernel, all [n, c, rows, columns] in f32.

    first = sum of x * w; middle = first with what follows, element by element; second = depthwise
    sum of middle * weights; result = second with what follows.
    """

    shape: ConvolutionShape
    first: Tensor
    middle: Tensor
    second: Tensor
    read: Load
    weights: Load
    result: Tensor
    rows: Sliding
    columns: Sliding

    @property
    def batch(self) -> int:
        """Images."""
        return static(self.result.shape)[0]

    @property
    def channels(self) -> int:
        """Channels of the middle tensor and of the result."""
        return self.shape.filters


def parts_of(kernel: Kernel) -> StripParts | str:
    """The parts of a kernel, or why it is no such pair."""
    if len(kernel.reductions) != 2 or len(kernel.outputs) != 1:
        return "not two reductions and one output"
    first, second = kernel.reductions
    result = kernel.outputs[0].tensor
    between = [s for s in kernel.stages if all(s is not t for t in (first, second, result))]
    if len(between) > 1:
        return "several computes between the two convolutions"
    middle = between[0] if between else first
    shapes = [stage.shape for stage in (first, middle, second, result)]
    if any(len(shape) != 4 or not is_static(shape) or 0 in shape for shape in shapes):
        return "not rows and columns of known extents"
    if shapes[0] != shapes[1] or shapes[2] != shapes[3]:
        return "what follows a convolution changes its shape"
    if any(stage.dtype != f32 for stage in (first, middle, second, result)):
        return "not all in f32"
    shape = convolution_of(kernel)
    if isinstance(shape, str):
        return shape
    if kernel.notes.get("filters_per_group") or shape.x.tensor.body is not None:
        return "the first convolution has groups"
    if not (_follows(middle, first) and _follows(result, second)):
        return "what follows a convolution does not read it element by element"
    return _depthwise(shape, first, middle, second, result)


def _follows(tensor: Tensor, stage: Tensor) -> bool:
    """True if `tensor` is `stage`, or reads it and no other compute, element by element."""
    if tensor is stage:
        return True
    assert tensor.body is not None
    return all(load.tensor is stage and is_identity_load(load, tensor.axes)
               for load in loads(tensor.body) if load.tensor.body is not None)


def _depthwise(shape: ConvolutionShape, first: Tensor, middle: Tensor, second: Tensor,
               result: Tensor) -> StripParts | str:
    body = second.body
    assert isinstance(body, Reduce)
    pair = product_of_loads(body.body)
    if body.kind != "sum" or pair is None:
        return "the second reduction is not a sum of products"
    read, weights = pair if pair[0].tensor is middle else pair[::-1]
    if read.tensor is not middle or weights.tensor.body is not None or weights.fill is not None:
        return "the second convolution does not read the first"
    if read.indices[0] is not second.axes[0] or read.indices[1] is not second.axes[1] \
            or weights.indices[0] is not second.axes[1] or not all(
                literal_index(index) == 0 or any(index is axis for axis in body.axes)
                for index in weights.indices[1:]):
        return "the second convolution is not depthwise"
    if read.fill is not None and read.fill.value != 0:
        return "the padding is not zero"
    rows, columns = (_sliding(read, second, body, axis) for axis in (2, 3))
    if rows is None or columns is None:
        return "the second convolution does not slide over rows and columns"
    return StripParts(shape, first, middle, second, read, weights, result, rows, columns)


def _sliding(read: Load, second: Tensor, body: Reduce, axis: int) -> Sliding | None:
    """How an axis is read; None if by anything but `output * stride + tap * dilation - pad`."""
    form = linear(read.indices[axis], axis_ranges((*second.axes, *body.axes)))
    steps = {key: coefficient for key, _, coefficient in form.terms}
    windows = [each for each in body.axes if each.name in steps]
    own = second.axes[axis].name
    stride = steps.pop(own, 1 if second.shape[axis] == 1 else 0)
    if len(windows) > 1 or len(steps) != len(windows) or stride < 1:
        return None
    taps, dilation = 1, 1
    if windows:
        taps, dilation = static([windows[0].extent])[0], steps[windows[0].name]
    inputs, outputs = static([read.tensor.shape[axis], second.shape[axis]])
    return Sliding(inputs, outputs, taps, stride, dilation, -form.constant)
