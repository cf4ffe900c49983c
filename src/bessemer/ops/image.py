"""ImageDecoder: encoded images to pixels, through Pillow. It runs on the host."""

import io
import struct
import zlib

import numpy as np

from bessemer.core.dtypes import u8
from bessemer.core.errors import MissingExtraError, ShapeError
from bessemer.ir.operator import Operator, operator, sample
from bessemer.ir.types import TensorType
from bessemer.ops.dims import Array, fresh_dim


def _png() -> Array:
    """A PNG of 2 x 3 pixels, for the sample."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    lines = b"".join(b"\0" + bytes(range(9 * k, 9 * k + 9)) for k in range(2))
    head = struct.pack(">IIBBBBB", 3, 2, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b"")]
    return np.frombuffer(b"\x89PNG\r\n\x1a\n" + b"".join(parts), np.uint8)


@operator("ImageDecoder")
class ImageDecoder(Operator):
    """The pixels of an encoded image; an empty image if it cannot be decoded.

    Shapes: stream u8 [bytes] -> pixels u8 [height, width, channels].
    Source: ONNX ImageDecoder-20.
    """

    pixel_format: str = "RGB"

    def infer(self, stream: TensorType) -> TensorType:
        if self.pixel_format not in ("RGB", "BGR", "Grayscale"):
            raise ShapeError(f"pixel_format is {self.pixel_format!r}")
        channels = 1 if self.pixel_format == "Grayscale" else 3
        return TensorType(u8, (fresh_dim(self), fresh_dim(self, 1), channels))

    def reference(self, stream: Array) -> Array:
        try:
            from PIL import Image
        except ImportError as error:
            raise MissingExtraError("ImageDecoder needs Pillow: pip install pillow") from error
        grey = self.pixel_format == "Grayscale"
        try:
            with Image.open(io.BytesIO(stream.tobytes())) as image:
                pixels = np.asarray(image.convert("L" if grey else "RGB"))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            # Pillow says so in these ways that the stream is no image it knows.
            return np.zeros((0, 0, 1 if grey else 3), np.uint8)
        if grey:
            return pixels[:, :, None]
        return np.ascontiguousarray(pixels[:, :, ::-1]) if self.pixel_format == "BGR" else pixels

    samples = (
        sample(_png()), sample(_png(), pixel_format="BGR"),
        sample(_png(), pixel_format="Grayscale"), sample(np.zeros(5, np.uint8)),
    )
