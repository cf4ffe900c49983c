"""The command `python -m bessemer.zoo NAME FILE`: writes a network as an ONNX file."""

import argparse
import sys
from pathlib import Path

from bessemer.core.errors import BessemerError
from bessemer.zoo.catalogue import ZooOptions, make_model, model_names


def main(arguments: list[str] | None = None) -> int:
    """Parses the arguments, writes the file; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bessemer.zoo", description=__doc__)
    parser.add_argument("name", help="one of: " + ", ".join(model_names()))
    parser.add_argument("file", type=Path, help="the ONNX file to write")
    parser.add_argument("--batch", type=int, default=1, help="leading dimension")
    parser.add_argument("--width", type=float, default=1.0, help="multiplies channel counts")
    parser.add_argument("--layers", type=int, help="number of transformer blocks")
    parser.add_argument("--size", type=int, help="side of the picture or length of the sequence")
    parser.add_argument("--seed", type=int, default=1234, help="seed of the weights")
    parser.add_argument("--dynamic", action="store_true", help="leave batch and size open")
    given = parser.parse_args(arguments)
    try:
        options = ZooOptions(given.batch, given.width, given.layers, given.size, given.seed,
                             given.dynamic)
        content = make_model(given.name, options).SerializeToString(deterministic=True)
        given.file.write_bytes(content)
    except (BessemerError, OSError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    sys.stderr.write(f"{given.file}: {given.name}, {len(content) / 1e6:.1f} MB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
