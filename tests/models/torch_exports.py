"""Small PyTorch models with seeded weights, and what the tests need to export and feed them.

Only imported where torch is installed.
"""
# ruff: noqa: TID253

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

Tensors = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Export:
    """A module, its inputs for some sizes, and which of their axes are open.

    `axes` are names of open axes by input name; `feed` makes the inputs from a size for each
    name; `sizes` are those to export with (first) and to try.
    """

    module: Callable[[], Any]
    axes: dict[str, dict[int, str]]
    feed: Callable[..., Tensors]
    sizes: tuple[dict[str, int], ...]
    exporters: tuple[str, ...] = ("dynamo", "script")
    scripted: bool = False
    runnable: bool = True
    """False if torch itself cannot compute it."""
    tolerance: float = 1e-4


CASES: dict[str, Export] = {}


def case(axes: dict[str, dict[int, str]], sizes: Any, feed: Callable[..., Tensors], **more: Any):
    """Registers a module class under its name in lower case."""

    def decorate(cls: type[nn.Module]) -> type[nn.Module]:
        CASES[cls.__name__.lower()] = Export(cls, axes, feed, tuple(sizes), **more)
        return cls

    return decorate


def images(n: int, h: int, w: int, channels: int = 3) -> Tensors:
    return (torch.randn(n, channels, h, w),)


NHW = {"x": {0: "n", 2: "h", 3: "w"}}
NS = {"x": {0: "n", 1: "s"}}
IMAGES = ({"n": 2, "h": 32, "w": 48}, {"n": 1, "h": 64, "w": 32}, {"n": 3, "h": 40, "w": 56})
TEXTS = ({"n": 2, "s": 7}, {"n": 1, "s": 12}, {"n": 3, "s": 5})


def sequences(n: int, s: int) -> Tensors:
    return (torch.randn(n, s, 16),)


def tokens(n: int, s: int) -> Tensors:
    return (torch.randint(1, 50, (n, s)),)


@case(NHW, IMAGES, images)
class ConvNet(nn.Module):
    """Convolutions, pooling, a head behind adaptive pooling, flatten by shape."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.deep = nn.Conv2d(8, 16, 3, padding=1, groups=4)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm(self.stem(x))), 3, 2, 1)
        x = F.avg_pool2d(F.silu(self.deep(x)), 2, ceil_mode=True)
        x = F.adaptive_avg_pool2d(x, 1)
        return self.head(x.view(x.shape[0], -1)).softmax(-1)


@case(NHW, IMAGES, images)
class Pyramid(nn.Module):
    """Features upsampled to the size of others, by sizes computed from shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, 2, 1)
        self.b = nn.Conv2d(8, 8, 3, 2, 1)

    def forward(self, x):
        fine = self.a(x)
        coarse = self.b(fine)
        up = F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear", align_corners=False)
        near = F.interpolate(coarse, scale_factor=2.0, mode="nearest")
        near = near[:, :, : fine.shape[2], : fine.shape[3]]
        return torch.cat([fine, up, near], 1)


@case(NHW, IMAGES, images)
class SpaceToDepth(nn.Module):
    """A patch embedding and its inverse through view and permute with computed sizes."""

    def forward(self, x):
        n, c, h, w = x.shape
        y = x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4)
        y = y.reshape(n, c * 4, (h // 2) * (w // 2)).transpose(1, 2)
        return y.flatten(1), F.pixel_shuffle(x.reshape(n, 3, h, w).repeat(1, 4, 1, 1), 2)



@case(NHW, IMAGES, images)
class GridSampler(nn.Module):
    """An affine grid over the picture and samples at its points."""

    def forward(self, x):
        theta = torch.tensor([[0.8, 0.1, 0.0], [-0.1, 0.9, 0.1]]).expand(x.shape[0], 2, 3)
        ys = torch.linspace(-1, 1, 9)
        grid = torch.stack(torch.meshgrid(ys, ys, indexing="xy"), -1).reshape(1, 9, 9, 2)
        grid = grid.expand(x.shape[0], 9, 9, 2) @ theta[:, :, :2].transpose(1, 2).unsqueeze(1)
        return F.grid_sample(x, grid, align_corners=False)


@case(NS, TEXTS, sequences, exporters=("script",))
class Recurrent(nn.Module):
    """A bidirectional LSTM of two layers, then a GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(16, 12, 2, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(24, 8, batch_first=True)

    def forward(self, x):
        y, _ = self.lstm(x)
        z, last = self.gru(y)
        return z[:, -1] + last[0]


class Block(nn.Module):
    """A pre-norm transformer block with a boolean mask."""

    def __init__(self, width: int = 16, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 32), nn.GELU(), nn.Linear(32, width))

    def forward(self, x, mask):
        n, s, d = x.shape
        q, k, v = self.qkv(self.first(x)).view(n, s, 3, self.heads, d // self.heads).permute(
            2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.out(y.transpose(1, 2).reshape(n, s, d))
        return x + self.mlp(self.second(x))


@case({"ids": {0: "n", 1: "s"}}, TEXTS, tokens)
class Decoder(nn.Module):
    """Token and position embeddings, causal and padding masks, two blocks, tied output."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(50, 16), nn.Embedding(64, 16)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.norm = nn.LayerNorm(16)

    def forward(self, ids):
        s = ids.shape[1]
        x = self.words(ids) + self.places(torch.arange(s))[None]
        causal = torch.ones(s, s, dtype=torch.bool).tril()
        mask = causal[None, None] & (ids != 0)[:, None, None, :]
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x) @ self.words.weight.T


def padded(n: int, s: int) -> Tensors:
    x = torch.randn(n, s, 16)
    mask = torch.zeros(n, s, dtype=torch.bool)
    mask[0, s - 2 :] = True
    return x, mask


@case({"x": {0: "n", 1: "s"}, "mask": {0: "n", 1: "s"}}, TEXTS, padded, exporters=("dynamo",))
class Encoder(nn.Module):
    """torch's own transformer encoder with a padding mask."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 4, 32, 0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x, mask):
        return self.encoder(x, src_key_padding_mask=mask)


def scattered(n: int, s: int) -> Tensors:
    return torch.randn(n, s, 16), torch.stack([torch.randperm(s) for _ in range(n)])


@case({"x": {0: "n", 1: "s"}, "index": {0: "n", 1: "s"}}, TEXTS, scattered)
class Scatter(nn.Module):
    """Gather, scatter, index_put, masked_fill, cumsum, topk, sort-like uses."""

    def forward(self, x, index):
        rows = index.unsqueeze(-1).expand(-1, -1, x.shape[-1])
        y = torch.zeros_like(x).scatter(1, rows, x)
        y = y.scatter_add(1, rows.flip(1), x)
        y = y.masked_fill(y > 1.5, 0.0) + torch.gather(x, 1, rows)
        best, _ = y.sum(-1).topk(3, dim=1)
        z = y.cumsum(1)
        z[:, 0, :] = 1.0
        return torch.einsum("nsd,ntd->nst", y, z) + best.sum(1)[:, None, None]


@case(NS, TEXTS, sequences, exporters=("dynamo",))
class Shapes(nn.Module):
    """Sizes computed in many ways: halves, products, maxima, ranges, padding to a multiple."""

    def forward(self, x):
        n, s, d = x.shape
        pad = (4 - s % 4) % 4
        y = F.pad(x, (0, 0, 0, pad))
        y = y.reshape(n, -1, 4, d).mean(2)
        half = y.reshape(n * y.shape[1], d // 2, 2)
        z = torch.arange(s, dtype=x.dtype).view(1, s, 1).expand(n, s, d) * x
        w = torch.full((n, s, 1), 2.0) + torch.zeros(s, 1)
        return half, z.unfold(1, 3, 1).sum(-1), w * x[:, :1]



@case(NS, TEXTS, sequences, exporters=("dynamo",))
class Condition(nn.Module):
    """torch.cond: one of two ways by the data."""

    def forward(self, x):
        def high(x):
            return x * 2.0 + x.mean(1, keepdim=True)

        def low(x):
            return x.cumsum(1) - 1.0

        return torch.cond(x.sum() > 0, high, low, (x,))


@case(NS, TEXTS, sequences, exporters=("script",), scripted=True)
class ScriptedLoop(nn.Module):
    """A scripted loop over the sequence with a branch and a carried state."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.Linear(32, 16)

    def forward(self, x):
        state = torch.zeros(x.shape[0], 16)
        for k in range(x.shape[1]):
            step = self.cell(torch.cat([x[:, k], state], 1)).tanh()
            if step.sum() > 0:
                state = state + step
            else:
                state = step
        return state


@case({"ids": {0: "n"}}, ({"n": 2}, {"n": 1}, {"n": 5}), lambda n: (torch.randint(1, 50, (n,)),),
      exporters=("script",), scripted=True)
class Greedy(nn.Module):
    """A greedy decoder: appends the likeliest token until an end token or a limit."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 16)
        self.step = nn.Linear(32, 16)
        self.out = nn.Linear(16, 50)

    def forward(self, ids):
        state = torch.zeros(ids.shape[0], 16)
        tokens = ids.view(-1, 1)
        last = ids
        count = 0
        done = False
        while count < 6 and not done:
            state = self.step(torch.cat([self.words(last), state], 1)).tanh()
            last = self.out(state).argmax(1)
            tokens = torch.cat([tokens, last.view(-1, 1)], 1)
            done = bool((last == 0).all())
            count += 1
        return tokens


@case(NHW, IMAGES, images, tolerance=1e-3)
class Upscaler(nn.Module):
    """Transposed convolution, cubic and area-like resizing, group and instance norm, padding."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(3, 8, 4, 2, 1)
        self.group, self.each = nn.GroupNorm(4, 8), nn.InstanceNorm2d(8, affine=True)
        self.out = nn.Conv2d(8, 3, 3)

    def forward(self, x):
        y = F.leaky_relu(self.group(self.up(x)), 0.1)
        y = self.out(F.pad(F.hardswish(self.each(y)), (1, 1, 1, 1), mode="reflect"))
        base = F.interpolate(x, scale_factor=2.0, mode="bicubic", align_corners=False)
        small = F.interpolate(y, size=(x.shape[2] // 2, x.shape[3] // 2), mode="nearest")
        return y + base, small



@case(NS, TEXTS, sequences)
class Statistics(nn.Module):
    """Variance, log-sum-exp, one-hot, roll, repeats, chunks, triangles, products."""

    def forward(self, x):
        a, b = x.chunk(2, -1)
        y = (a - a.mean(-1, keepdim=True)) / (a.var(-1, keepdim=True) + 1e-5).sqrt()
        best = x.argmax(-1)
        one = F.one_hot(best, 16).to(x.dtype)
        z = torch.stack([y, b.roll(1, -1)], 2).flatten(2)
        w = torch.tril(x @ x.transpose(1, 2)).logsumexp(-1, keepdim=True)
        return z * one + w, torch.repeat_interleave(a.amax(1), 2, 0), y.norm(dim=-1).clamp(0.1, 5.0)



@case(NS, TEXTS, sequences, exporters=("script",))
class DataDependent(nn.Module):
    """Results whose extents depend on the data: nonzero, boolean indices, sorting, unique."""

    def forward(self, x):
        flat = x.flatten()
        places = (flat > 0.5).nonzero()
        chosen = flat[flat > 0.5]
        ordered, order = chosen.sort(descending=True)
        values = torch.unique((chosen * 4).round().to(torch.int64))
        return places, ordered.cumsum(0), chosen[order] * 2.0, values



def pictures_for_detection(n: int, h: int, w: int) -> Tensors:
    return (torch.rand(n, 3, h, w),)


@case(NHW, IMAGES, pictures_for_detection, exporters=("dynamo",), runnable=False)
class Detector(nn.Module):
    """A one-stage detector: anchors from the feature map's size, box decoding, NMS, the best ones.

    torch has no NonMaxSuppression; the ONNX operator is written into the graph by hand.
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1))
        self.boxes, self.classes = nn.Conv2d(8, 2 * 4, 3, 1, 1), nn.Conv2d(8, 2 * 3, 3, 1, 1)

    def anchors(self, rows, columns):
        ys, xs = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5,
                                indexing="ij")
        middle = torch.stack([xs, ys], -1).reshape(-1, 1, 2) * 4.0
        sizes = torch.tensor([[8.0, 8.0], [12.0, 6.0]])
        return torch.cat([middle.expand(-1, 2, 2), sizes.expand(rows * columns, 2, 2)], -1)

    def forward(self, x):
        y = self.body(x)
        n, _, rows, columns = y.shape
        moves = self.boxes(y).permute(0, 2, 3, 1).reshape(n, -1, 4)
        scores = self.classes(y).permute(0, 2, 3, 1).reshape(n, -1, 3).sigmoid()
        anchors = self.anchors(rows, columns).reshape(-1, 4)
        middle = anchors[:, :2] + moves[..., :2] * anchors[:, 2:]
        size = anchors[:, 2:] * moves[..., 2:].clamp(max=2.0).exp()
        boxes = torch.cat([middle - size / 2, middle + size / 2], -1)
        boxes = boxes.clamp(min=0.0)
        kept = torch.onnx.ops.symbolic(
            "NonMaxSuppression",
            (boxes, scores.transpose(1, 2), torch.tensor([4]), torch.tensor([0.5]),
             torch.tensor([0.4])),
            attrs={"center_point_box": 0}, dtype=torch.int64, shape=(12, 3), version=11)
        rows_of = kept[:, 0], kept[:, 2]
        return boxes[rows_of], scores.transpose(1, 2)[kept[:, 0], kept[:, 1], kept[:, 2]], kept
