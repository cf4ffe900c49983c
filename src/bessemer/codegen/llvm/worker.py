"""The compile worker: reads IR texts from stdin, writes objects to stdout, ends at end of input.

Started by pool.py as `python -m bessemer.codegen.llvm.worker`. A message is an 8-byte little-endian
length and that many bytes. The first message is a JSON object with the target and the passes; each
further one is an IR text, answered by one status byte (0 object, 1 error text) and the body.
"""

import json
import os
import sys
from typing import IO

from bessemer.codegen.llvm.emit import emit_object
from bessemer.core.errors import CodegenError
from bessemer.targets import Target

OK, FAILED = b"\0", b"\1"


def write_message(stream: IO[bytes], *parts: bytes) -> None:
    """Writes the parts as one message."""
    stream.write(sum(map(len, parts)).to_bytes(8, "little"))
    for part in parts:
        stream.write(part)
    stream.flush()


def read_message(stream: IO[bytes]) -> bytes | None:
    """The next message; None at end of input, also in the middle of a message."""
    header = stream.read(8)
    if len(header) < 8:
        return None
    length = int.from_bytes(header, "little")
    body = stream.read(length)
    return body if len(body) == length else None


def serve(source: IO[bytes], sink: IO[bytes]) -> None:
    """Compiles until the input ends."""
    first = read_message(source)
    if first is None:
        return
    request = json.loads(first)
    fields = request["target"]
    target = Target(**{**fields, "requires": tuple(fields["requires"])})
    while (text := read_message(source)) is not None:
        try:
            body = emit_object(text.decode(), target, passes=request["passes"])
        except CodegenError as error:
            write_message(sink, FAILED, str(error).encode())
        else:
            write_message(sink, OK, body)


def main() -> None:
    """Serves the process's stdin and stdout; LLVM's own prints cannot get into the replies."""
    with os.fdopen(os.dup(1), "wb") as sink:
        os.dup2(2, 1)
        serve(sys.stdin.buffer, sink)


if __name__ == "__main__":
    main()
