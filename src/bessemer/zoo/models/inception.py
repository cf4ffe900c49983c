"""Inception v3 (Szegedy et al. 2015, "Rethinking the Inception Architecture", table 1)."""

from collections.abc import Callable, Sequence

from onnx import ModelProto

from bessemer.zoo.builder import ModelBuilder
from bessemer.zoo.catalogue import ZooOptions, zoo_model
from bessemer.zoo.layers import AFTER_LINEAR, avg_pool, classifier, concat, conv_norm, max_pool

Kernel = int | tuple[int, int]
# One unit of a branch: channels, kernel, stride, padding (None keeps the side).
Unit = tuple[int, Kernel, int, int | None]

_ROW, _COLUMN = (1, 7), (7, 1)


def _plain(channels: int, kernel: Kernel = 1) -> Unit:
    return channels, kernel, 1, None


def _halving(channels: int) -> Unit:
    return channels, 3, 2, 0


class _Maker:
    """Branches of one network; `options` scales their channels."""

    def __init__(self, builder: ModelBuilder, options: ZooOptions) -> None:
        self.builder = builder
        self.options = options

    def branch(self, x: str, name: str, units: Sequence[Unit]) -> str:
        for number, (channels, kernel, stride, padding) in enumerate(units):
            x = conv_norm(
                self.builder, x, self.options.channels(channels), kernel,
                name=f"{name}.{number}", stride=stride, padding=padding,
            )
        return x

    def branches(self, x: str, units: Sequence[Sequence[Unit]], pooled: int | None) -> str:
        """All branches side by side; `pooled` None makes the last one a halving max pool."""
        parts = [self.branch(x, f"branch{k}", each) for k, each in enumerate(units)]
        if pooled is None:
            parts.append(max_pool(self.builder, x, 3, 2))
        else:
            average = avg_pool(self.builder, x, 3)
            parts.append(self.branch(average, "branch_pool", [_plain(pooled)]))
        return concat(self.builder, parts)

    def block_a(self, x: str, pooled: int) -> str:
        """35 x 35: 1x1, 5x5, a double 3x3."""
        return self.branches(x, [
            [_plain(64)], [_plain(48), _plain(64, 5)],
            [_plain(64), _plain(96, 3), _plain(96, 3)],
        ], pooled)

    def block_b(self, x: str) -> str:
        """From 35 to 17."""
        return self.branches(
            x, [[_halving(384)], [_plain(64), _plain(96, 3), _halving(96)]], None)

    def block_c(self, x: str, narrow: int) -> str:
        """17 x 17: 7x7 filters as rows and columns."""
        return self.branches(x, [
            [_plain(192)], [_plain(narrow), _plain(narrow, _ROW), _plain(192, _COLUMN)],
            [_plain(narrow), _plain(narrow, _COLUMN), _plain(narrow, _ROW),
             _plain(narrow, _COLUMN), _plain(192, _ROW)],
        ], 192)

    def block_d(self, x: str) -> str:
        """From 17 to 8."""
        return self.branches(x, [
            [_plain(192), _halving(320)],
            [_plain(192), _plain(192, _ROW), _plain(192, _COLUMN), _halving(192)],
        ], None)

    def block_e(self, x: str) -> str:
        """8 x 8: branches that end in a row and a column side by side."""
        parts = [self.branch(x, "branch0", [_plain(320)])]
        for name, units in (("branch1", [_plain(384)]),
                            ("branch2", [_plain(448), _plain(384, 3)])):
            stem = self.branch(x, name, units)
            parts += [self.branch(stem, f"{name}.row", [_plain(384, (1, 3))]),
                      self.branch(stem, f"{name}.column", [_plain(384, (3, 1))])]
        average = avg_pool(self.builder, x, 3)
        parts.append(self.branch(average, "branch_pool", [_plain(192)]))
        return concat(self.builder, parts)

    def stem(self, x: str) -> str:
        """299 x 299 -> 35 x 35."""
        builder, channels = self.builder, self.options.channels
        x = conv_norm(builder, x, channels(32), 3, name="stem.0", stride=2, padding=0,
                      gain=AFTER_LINEAR)
        x = self.branch(x, "stem.1", [(32, 3, 1, 0), (64, 3, 1, None)])
        x = max_pool(builder, x, 3, 2)
        x = self.branch(x, "stem.2", [(80, 1, 1, 0), (192, 3, 1, 0)])
        return max_pool(builder, x, 3, 2)


@zoo_model("inception_v3")
def inception_v3(options: ZooOptions) -> ModelProto:
    """The network; input [n, 3, 299, 299] (side at least 75), output [n, 1000]."""
    size = options.size or 299
    builder = ModelBuilder("inception_v3", options.seed)
    make = _Maker(builder, options)
    x = make.stem(builder.input("input", (options.batch, 3, size, size)))
    blocks: list[Callable[[str], str]] = [
        *(lambda y, n=n: make.block_a(y, n) for n in (32, 64, 64)), make.block_b,
        *(lambda y, n=n: make.block_c(y, n) for n in (128, 160, 160, 192)), make.block_d,
        make.block_e, make.block_e,
    ]
    for number, block in enumerate(blocks):
        with builder.scope(f"mixed{number}"):
            x = block(x)
    x = classifier(builder, x, 1000)
    builder.output(x, "output", (options.batch, 1000))
    return builder.finish()
