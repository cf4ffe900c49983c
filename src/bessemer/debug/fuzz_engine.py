"""Fuzzes the engine file: every mutated file must give an error of our tree or the right answer.

`python -m bessemer.debug.fuzz_engine --count 20000`. Cases are run in child processes with a limit
on memory, so that a crash, a hang or a runaway allocation is found and named. Every case follows
from the seed and its number; `--keep FOLDER` receives the files that failed.
"""

import argparse
import json
import os
import random
import resource
import select
import struct
import subprocess
import sys
import tempfile
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from bessemer.core.errors import BessemerError
from bessemer.core.formula import parse_formula
from bessemer.debug.symbolic_engine import (
    host_data,
    symbolic_answer,
    symbolic_engine_data,
    symbolic_inputs,
)
from bessemer.debug.tiny_engine import tiny_answer, tiny_engine_data
from bessemer.engine.checksum import digest
from bessemer.engine.file import write_engine
from bessemer.engine.plan import Binding, BufferRef, HostStep, Plan, StoredGraph, TensorRef
from bessemer.runtime.load import load

HEADER, ENTRY = 64, 64
COUNT = 64
MEMORY_BYTES = 1 << 30
CASE_SECONDS = 30.0
_EDGES = (0, 1, 2, 3, 7, 63, 64, 255, 4095, 4096, 65535, (1 << 31) - 1, 1 << 31, (1 << 32) - 1,
          1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)

# Overflow, negative sizes, division by zero, deep nesting, unknown symbols, no formulas at all.
_FORMULAS = (
    "*".join(["N"] * 200), "N*" * 8 + "9223372036854775807", "N-1000", "N//0", "N//(H-3)", "0-N",
    "(" * 40 + "N" + ")" * 40, "(" * 20 + "N" + ")" * 20, "9" * 30, "M", "n", "N", "H", "2*N+1",
    "N H", "N**9", "-" * 30 + "N", "\0", "N*" * 9000 + "N",
)

Mutation = Callable[[bytearray, random.Random], bytes]
Arrays = dict[str, np.ndarray[Any, Any]]
Seed = tuple[bytes, Arrays, Arrays]
"""An engine file, inputs for it, and the outputs that follow."""

HARMLESS = "formulas"
"""The seed without machine code, which may run however it was changed."""


def seed_engines() -> dict[str, Seed]:
    """Good engine files by name."""
    data, constant = tiny_engine_data(COUNT)
    size = 4 * COUNT
    ref = TensorRef(BufferRef("arena", 0, size), "f32", (COUNT,))
    host = HostStep("copy", {"op": "Identity", "attributes": {}}, (ref,), (ref,), ("Identity_9",))
    first, *rest = data.plan.steps
    large = np.arange(60_000, dtype=np.uint16)
    several = {"base": data.objects["base"], "other": data.objects["base"]}
    engines = {
        "plain": data,
        "host": replace(data, plan=replace(data.plan, steps=(first, host, *rest))),
        "bodies": replace(data, plan=replace(data.plan, steps=(
            first, _branch_step(ref, constant), *rest))),
        "large": replace(data, objects=several, constants=(*data.constants, (4096, large))),
        "symbolic": replace(symbolic_engine_data(), source=StoredGraph("graph g() -> () {\n}")),
        HARMLESS: host_data(),
    }
    x = {"x": np.linspace(0, 1, COUNT, dtype=np.float32)}
    known = (x, {"y": tiny_answer(x["x"], constant)})
    shaped = symbolic_inputs(4, 3)
    made: dict[str, Seed] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, engine in engines.items():
            path = Path(folder) / "m.plan"
            write_engine(path, engine)
            inputs, outputs = known if name in ("plain", "host", "bodies", "large") else (
                shaped, symbolic_answer(shaped))
            made[name] = (path.read_bytes(), inputs, outputs)
    return made


def _branch_step(ref: TensorRef, constant: np.ndarray[Any, Any]) -> HostStep:
    """An If that copies a value onto itself; a byte of the constant, not zero, is its condition."""
    byte = next(k for k, number in enumerate(constant.tobytes()) if number)
    condition = TensorRef(BufferRef("constant", byte, 1), "bool", (1,))
    size, shape = ref.buffer.size_bytes, (COUNT,)
    given = TensorRef(BufferRef("input", 0, size), "f32", shape)
    made = TensorRef(BufferRef("output", 0, size), "f32", shape)
    copy = HostStep("copy", {"op": "Identity", "attributes": {}}, (given,), (made,))
    body = Plan("then", (Binding("a", "f32", shape),), (Binding("b", "f32", shape),), (copy,))
    return HostStep("branch", {"op": "If", "attributes": {}}, (condition, ref), (ref,),
                    bodies={"then_branch": body})


# --- mutations that leave checksums alone --------------------------------------------------------

def flip_bits(content: bytearray, source: random.Random) -> bytes:
    """Flips one to eight bits anywhere."""
    for _ in range(source.randrange(1, 9)):
        content[source.randrange(len(content))] ^= 1 << source.randrange(8)
    return bytes(content)


def truncate(content: bytearray, source: random.Random) -> bytes:
    """Cuts the end off."""
    return bytes(content[: source.randrange(len(content))])


def extend(content: bytearray, source: random.Random) -> bytes:
    """Adds bytes to the end."""
    return bytes(content) + source.randbytes(source.randrange(1, 5000))


def overwrite_block(content: bytearray, source: random.Random) -> bytes:
    """Overwrites a block with zeros, noise, or another part of the file."""
    size = source.randrange(1, min(5000, len(content)))
    at, other = (source.randrange(len(content) - size) for _ in range(2))
    blocks = (bytes(size), source.randbytes(size), bytes(content[other : other + size]))
    content[at : at + size] = source.choice(blocks)
    return bytes(content)


def remove_block(content: bytearray, source: random.Random) -> bytes:
    """Removes bytes from the middle."""
    at = source.randrange(len(content))
    del content[at : at + source.randrange(1, 5000)]
    return bytes(content)


# --- mutations that repair checksums, as somebody hostile would ----------------------------------

def rehash(content: bytearray) -> bytes:
    """Makes the header's checksum right again."""
    if len(content) >= HEADER:
        (count,) = struct.unpack_from("<I", content, 12)
        table = content[HEADER : HEADER + ENTRY * min(count, 10_000)]
        content[32:64] = digest(bytes(content[:32] + table))
    return bytes(content)


def number_field(content: bytearray, source: random.Random) -> bytes:
    """Sets a number of the header or the section table to an edge value."""
    (count,) = struct.unpack_from("<I", content, 12)
    places = [(8, 4), (12, 4), (16, 8), (24, 8)]
    for row in range(count):
        at = HEADER + ENTRY * row
        places += [(at, 4), (at + 4, 4), (at + 8, 8), (at + 16, 8), (at + 24, 8)]
    at, size = source.choice(places)
    near = int.from_bytes(content[at : at + size], "little") + source.choice((-64, -1, 1, 64))
    value = source.choice((*_EDGES, near)) % (1 << 8 * size)
    content[at : at + size] = value.to_bytes(size, "little")
    return rehash(content)


def _sections(content: bytearray) -> list[tuple[int, bytes]]:
    """Kind and content of each section of a good file."""
    (count,) = struct.unpack_from("<I", content, 12)
    found = []
    for row in range(count):
        kind, _, offset, size = struct.unpack_from("<IIQQ", content, HEADER + ENTRY * row)
        found.append((kind, bytes(content[offset : offset + size])))
    return found


def _rebuild(content: bytearray, number: int, packed: bytes, raw_size: int) -> bytes:
    """The file with one section replaced, sizes and checksums right."""
    (count,) = struct.unpack_from("<I", content, 12)
    sections = _sections(content)
    sections[number] = (sections[number][0], packed)
    body, table = b"", b""
    position = start = HEADER + ENTRY * count
    for index, (kind, part) in enumerate(sections):
        alignment = 4096 if kind == 3 else 64
        offset = -(-position // alignment) * alignment
        body += bytes(offset - position) + part
        position = offset + len(part)
        old = content[HEADER + ENTRY * index :][:ENTRY]
        check = digest(part) if kind != 3 else bytes(old[32:64])
        raw = raw_size if index == number else struct.unpack_from("<Q", old, 24)[0]
        table += struct.pack("<IIQQQ", kind, index, offset, len(part), raw) + check
    head = bytes(content[:16]) + struct.pack("<Q", start + len(body)) + bytes(content[24:32])
    return rehash(bytearray(head + bytes(32) + table + body))


def _leaves(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a JSON value as (container, key)."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in list(items):
        yield value, key
        if isinstance(item, dict | list):
            yield from _leaves(item)


def manifest_value(content: bytearray, source: random.Random) -> bytes:
    """Changes, removes or doubles values of the manifest and makes the file right around it."""
    value = json.loads(zlib.decompress(_sections(content)[0][1]))
    for _ in range(source.randrange(1, 4)):
        places = list(_leaves(value))
        if not places:
            break
        container, key = source.choice(places)
        turn = source.randrange(4)
        if turn == 0:
            del container[key]
        elif turn == 1 and isinstance(container, list):
            container.append(container[key])
        elif isinstance(container[key], int) and turn == 2:
            container[key] += source.choice((-1, 1, 64, -64))
        else:
            container[key] = source.choice((*_EDGES, -1, 1.5, None, True, "", "x", [], {}, [1, 2]))
    text = json.dumps(value).encode()
    return _rebuild(content, 0, zlib.compress(text), len(text))


def formula(content: bytearray, source: random.Random) -> bytes:
    """Replaces formulas of the manifest by hostile ones and makes the file right around it."""
    value = json.loads(zlib.decompress(_sections(content)[0][1]))
    places = [place for place in _leaves(value["plan"]) if _is_formula(place[0][place[1]])]
    for _ in range(source.randrange(1, 4)):
        container, key = source.choice(places)
        container[key] = source.choice(_FORMULAS)
    text = json.dumps(value).encode()
    return _rebuild(content, 0, zlib.compress(text), len(text))


def _is_formula(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(parse_formula(value))
    except ValueError:
        return False


def manifest_text(content: bytearray, source: random.Random) -> bytes:
    """Damages the manifest's text and makes the file right around it."""
    text = bytearray(zlib.decompress(_sections(content)[0][1]))
    damaged = source.choice((flip_bits, truncate, overwrite_block, remove_block))(text, source)
    return _rebuild(content, 0, zlib.compress(damaged), len(damaged))


def machine_code(content: bytearray, source: random.Random) -> bytes:
    """Damages an object and makes the file right around it."""
    code = bytearray(_sections(content)[1][1])
    if not code:
        return bytes(content)
    for _ in range(source.randrange(1, 6)):
        at = source.randrange(len(code))
        code[at] = source.choice((0, 1, 255, source.randrange(256)))
    return _rebuild(content, 1, bytes(code), len(code))


BLIND: tuple[Mutation, ...] = (flip_bits, truncate, extend, overwrite_block, remove_block)
REPAIRED: tuple[Mutation, ...] = (
    number_field, manifest_value, manifest_text, formula, machine_code,
)


# --- one case ------------------------------------------------------------------------------------

def mutate(seed: int, number: int, engines: dict[str, Seed]) -> tuple[str, bytes, Seed, str]:
    """Case `number`: its name, the file, the seed that it comes from, and what to do with it.

    A file with repaired checksums may well be another consistent engine, whose machine code nobody
    can trust: such a file is only loaded and looked into (`load`). Without machine code it may run,
    but any answer is right (`run`). Where checksums were left alone answers are known (`compare`).
    """
    source = random.Random(seed * 1_000_003 + number)
    name = source.choice(sorted(engines))
    mutation = source.choice(BLIND + REPAIRED)
    changed = mutation(bytearray(engines[name][0]), source)
    turn = "compare" if mutation in BLIND else "run" if name == HARMLESS else "load"
    return f"{name}/{mutation.__name__}", changed, engines[name], turn


def try_case(path: Path, seed: Seed, turn: str) -> str:
    """Loads the file and says what came of it: the error's name, `right`, `ran` or `loaded`.

    Raises: AssertionError for a wrong answer, and whatever a bug raises.
    """
    _, inputs, expected = seed
    try:
        engine = load(path)
        engine.inspect()
        if turn == "load":
            return "loaded"
        got = engine.run(inputs)
    except BessemerError as error:
        return type(error).__name__
    if turn == "run":
        return "ran"
    assert all(np.array_equal(got[k], array) for k, array in expected.items()), "a wrong answer"
    return "right"


def worker(seed: int, first: int, last: int, folder: Path) -> None:
    """Runs cases in this process and reports each on standard output."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    engines = seed_engines_from(folder)
    path = folder / f"case{os.getpid()}.plan"
    for number in range(first, last):
        name, content, origin, turn = mutate(seed, number, engines)
        path.write_bytes(content)
        try:
            outcome = try_case(path, origin, turn)
        except Exception:  # noqa: BLE001  any other exception is what we look for
            outcome = "BUG " + traceback.format_exc(limit=-4).replace("\n", " | ")
        sys.stdout.write(f"{number}\t{name}\t{outcome}\n")
        sys.stdout.flush()
    path.unlink(missing_ok=True)


def seed_engines_from(folder: Path) -> dict[str, Seed]:
    """The seed engines that the parent wrote, so that children need no compiler."""
    found = {}
    for path in sorted(folder.glob("*.seed")):
        with np.load(path.with_suffix(".npz")) as held:
            arrays = [{k[1:]: held[k] for k in held if k[0] == kind} for kind in "io"]
        found[path.stem] = (path.read_bytes(), arrays[0], arrays[1])
    return found


# --- the parent ----------------------------------------------------------------------------------

@dataclass
class FuzzReport:
    """What came of all cases: outcomes counted, and the failures in words."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


def fuzz(
    count: int, seed: int = 0, keep: Path | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> FuzzReport:
    """Runs `count` cases in child processes; a crash or hang costs one child, not the run."""
    report = FuzzReport()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        engines = seed_engines()
        for stem, (content, inputs, outputs) in engines.items():
            (folder / f"{stem}.seed").write_bytes(content)
            arrays = {f"i{k}": v for k, v in inputs.items()}
            arrays |= {f"o{k}": v for k, v in outputs.items()}
            np.savez(folder / f"{stem}.npz", **arrays)  # type: ignore[arg-type]
        first = 0
        while first < count:
            reached, trouble = _run_child(seed, first, count, folder, report, progress)
            if trouble and reached < count:
                report.failures.append(f"case {reached}: {trouble}")
            first = reached + 1
        if keep is not None and report.failures:
            keep.mkdir(parents=True, exist_ok=True)
            for text in report.failures:
                number = int(text.split()[1].rstrip(":"))
                (keep / f"case{number}.plan").write_bytes(mutate(seed, number, engines)[1])
    return report


def _run_child(
    seed: int, first: int, last: int, folder: Path, report: FuzzReport,
    progress: Callable[[int], None],
) -> tuple[int, str]:
    """Runs cases until the child ends; returns the case it did not finish and why."""
    command = [sys.executable, "-m", "bessemer.debug.fuzz_engine", "--worker", str(first),
               "--count", str(last), "--seed", str(seed), "--folder", str(folder)]
    # Thread pools of numpy's libraries reserve address space, which is what the limit counts.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    reached, trouble = first, ""
    for line in _lines(child):
        if line is None:
            child.kill()
            trouble = f"no answer within {CASE_SECONDS:.0f} s"
            break
        number, name, outcome = line.split("\t", 2)
        reached = int(number) + 1
        report.outcomes[outcome if not outcome.startswith("BUG") else "bug"] += 1
        if outcome.startswith("BUG"):
            report.failures.append(f"case {number}: {name}: {outcome}")
        progress(reached)
    assert child.stdout is not None
    child.stdout.close()
    code = child.wait()
    return reached, trouble or (f"the process ended with {code}" if code else "")


def _lines(child: "subprocess.Popen[bytes]") -> Iterator[str | None]:
    """Lines that the child writes; None if it is silent for too long."""
    assert child.stdout is not None
    handle, pending = child.stdout.fileno(), b""
    while True:
        ready, _, _ = select.select([handle], [], [], CASE_SECONDS)
        if not ready:
            yield None
            continue
        part = os.read(handle, 1 << 16)
        if not part:
            return
        *whole, pending = (pending + part).split(b"\n")
        for line in whole:
            yield line.decode()


def main(arguments: list[str] | None = None) -> int:
    """The command; exit code 1 if any case failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the files of failed cases")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker is not None:
        worker(options.seed, options.worker, options.count, options.folder)
        return 0
    show = sys.stderr.isatty()

    def progress(done: int) -> None:
        if show and done % 100 == 0:
            sys.stderr.write(f"\r{done} of {options.count}")

    report = fuzz(options.count, options.seed, options.keep, progress)
    sys.stdout.write("\n".join([
        f"{sum(report.outcomes.values())} cases, {len(report.failures)} failures",
        *(f"  {number:8} {outcome}" for outcome, number in report.outcomes.most_common()),
        *report.failures,
    ]) + "\n")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
