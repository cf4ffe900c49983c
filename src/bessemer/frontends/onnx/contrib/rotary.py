"""RotaryEmbedding: the operator of com.microsoft with its other order of inputs."""

from bessemer.frontends.onnx.contrib.table import Draft, contrib
from bessemer.ir.graph import Value

ROTARY = ("RotaryEmbedding", "Shape", "Squeeze", "Unsqueeze", "Range", "Add", "Expand", "Concat")


@contrib("RotaryEmbedding", becomes=ROTARY)
def rotary_embedding(
    d: Draft, x: Value, position_ids: Value, cos: Value, sin: Value, *, interleaved: int = 0,
    num_heads: int = 0, rotary_embedding_dim: int = 0, is_packed_batching: int = 0,
    scale: float = 1.0,
) -> None:
    """The standard RotaryEmbedding; one position means that of the first row."""
    if is_packed_batching:
        d.refuse("is_packed_batching")
    if scale != 1:
        d.refuse(f"scale {scale}")
    dims = d.dims(x, 3, 4)
    heads = num_heads
    if len(dims) == 3 and not (num_heads and rotary_embedding_dim):
        # Without a width of their own the tables cover the whole head.
        heads = d.size(x, 2) // (2 * d.size(cos, 1))
    positions = position_ids
    if len(d.dims(position_ids, 1, 2)) == 1:
        rows = d.arange(d.extent(x, len(dims) - 2))
        shape = [d.op("Unsqueeze", d.extent(x, axis), d.constant([0]))
                 for axis in (0, len(dims) - 2)]
        places = d.op("Add", rows, position_ids)
        positions = d.op("Expand", places, d.op("Concat", *shape, axis=0))
    d.op("RotaryEmbedding", x, cos, sin, positions, interleaved=interleaved, num_heads=heads,
         rotary_embedding_dim=rotary_embedding_dim, name=d.outputs[0])
