"""Where two convolutions meet in one fusion group: a depthwise one behind any other.

The largest tensor of an inverted residual block lies between its first 1x1 convolution and the
depthwise one. Whether it pays not to store it is decided with the schedules; a group that is better
kept apart is cut at its seam.
"""

from collections.abc import Sequence

from bessemer.ir.graph import Node
from bessemer.ops.conv import Conv


def is_depthwise(node: Node) -> bool:
    """True for a convolution of images with one filter for each channel, its weights known."""
    if not isinstance(node.op, Conv):
        return False
    x, weights = node.inputs[:2]
    assert x is not None
    assert weights is not None
    return weights.constant is not None and x.tensor.rank == 4 \
        and weights.tensor.dims[0] == node.op.group == x.tensor.dims[1]


def seam_refusal(nodes: Sequence[Node], node: Node) -> str:
    """Empty if a depthwise convolution may join the nodes of the group that makes its input."""
    value = node.inputs[0]
    assert value is not None
    sums = [each for each in nodes if isinstance(each.op, Conv)]
    if len(sums) != 1 or nodes[0] is not sums[0]:
        return "it is not the group of one convolution"
    if is_depthwise(sums[0]) or sums[0].op.group != 1:  # type: ignore[attr-defined]
        return f"{sums[0].name} has groups"
    if value.producer is not nodes[-1] or len(nodes[-1].outputs) > 1:
        return "it does not read the group's only result"
    if any(user is not node for user, _ in value.users):
        return f"{value.name} has {len(value.users)} users"
    if value.placement is not None:
        return f"{value.name} is written into {value.placement.root.name}"
    return ""
