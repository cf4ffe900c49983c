"""Writes docs/operators.md: what becomes of each operator, found by trying.

    python docs/make_operators.py            writes the file
    python docs/make_operators.py --check    exit code 1 if the file is out of date
"""

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from bessemer.core.dtypes import DTYPES, dtype_from_numpy
from bessemer.core.registry import OPERATORS
from bessemer.debug.operator_trials import Findings, plain, try_operator
from bessemer.frontends.onnx.support import COMPILED, EXPANDED, OPAQUE, UNSUPPORTED, classify
from bessemer.frontends.onnx.types import TEXT_BY_DTYPE
from bessemer.frontends.onnx.versions.table import EVERY, adapted_types, replacements, steps
from bessemer.ops.control import ControlOperator

PAGE = Path(__file__).parent / "operators.md"
MICROSOFT = "com.microsoft"
DOMAINS = ("", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training", MICROSOFT)

HEAD = """# Operators

What becomes of every operator of onnx {version} and of those of com.microsoft that are known,
found by trying: `python docs/make_operators.py` takes the samples of each operator, gives them
every element type, and asks the compiler.

- `compiled`: machine code. The element types are those of the first input that may have several
  (of the result, where the inputs have one each); with those in the column `host` it runs by its
  numpy reference instead. Types that ONNX does not allow are in neither column.
- `host`: it runs by its numpy reference, inside the engine. `bessemer inspect` and the build say
  which nodes do, and why.
- `bodies compiled`: the host decides what runs next; what runs is compiled. Where the number of
  iterations is known, or the condition of a branch, only the bodies are left.
- a note "as X": it is written as other operators when a model is read; what is said of those holds
  for the element types, and it runs on the host if one of them does.
- `missing`: a model with it is refused, with a message that names the node.

`opsets` are those of the model: `1+` all, `7-9` these. Older forms are translated to the newest.
A note "... computed at run time" names inputs that must be known when the engine is built for the
operator to be compiled; otherwise that node runs on the host.

Short names: `floats` are f16 bf16 f32 f64, `ints` i8 to u64, `f8` the four 8-bit floats of OCP and
their variants (e4m3fn, e4m3fnuz, e5m2, e5m2fnuz), `int4` i4 u4, `int2` i2 u2, `complex` c64 c128.

"""
TABLE = """| operator | opsets | runs | compiled | host | notes |
|---|---|---|---|---|---|
"""
GROUPS = {
    "floats": ("f16", "bf16", "f32", "f64"),
    "ints": ("i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64"),
    "f8": ("f8e4m3fn", "f8e4m3fnuz", "f8e5m2", "f8e5m2fnuz"),
    "int4": ("i4", "u4"), "int2": ("i2", "u2"), "complex": ("c64", "c128"),
}  # fmt: skip
RUNS = {COMPILED: "compiled", OPAQUE: "host", EXPANDED: "compiled"}
DTYPE_OF_TEXT = {text: name for name, text in TEXT_BY_DTYPE.items()}


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    name: str
    opsets: str
    runs: str
    compiled: str = ""
    host: str = ""
    notes: str = ""

    def __str__(self) -> str:
        cells = (self.name, self.opsets, self.runs, self.compiled, self.host, self.notes)
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def short(names: set[str]) -> str:
    """Element types in the order of the table, groups under one name."""
    words, left = [], set(names)
    for group, members in GROUPS.items():
        if left.issuperset(members):
            words.append(group)
            left -= set(members)
    return " ".join(words + [name for name in DTYPES if name in left])


def tensor_types(formal: onnx.defs.OpSchema.FormalParameter) -> list[str]:
    """Our names of the tensor types that a formal input or output takes."""
    texts = [text.removeprefix("optional(").rstrip(")") + ")" for text in formal.types]
    return list(dict.fromkeys(DTYPE_OF_TEXT[text] for text in texts if text in DTYPE_OF_TEXT))


def varying(schema: onnx.defs.OpSchema) -> tuple[list[str], Callable[[int], bool] | None]:
    """The element types to try, and for which inputs (None: for the results)."""
    formals = schema.inputs
    first = next((f for f in formals if len(tensor_types(f)) > 1), None)
    if first is None:
        results = [types for f in schema.outputs if len(types := tensor_types(f)) > 1]
        if results or not formals:
            return (results or [[]])[0], None
        first = formals[0]
    return tensor_types(first), lambda k: (
        formals[min(k, len(formals) - 1)].type_str == first.type_str
    )


def findings(domain: str, name: str) -> Findings:
    """What trying an operator shows; one without a schema is tried with its samples' types."""
    key = f"{domain}.{name}" if domain else name
    try:
        types, varies = varying(onnx.defs.get_schema(name, domain))
    except onnx.defs.SchemaError:
        types, varies = sample_types(key), lambda k: k == 0
    return try_operator(key, [DTYPES[known] for known in types], varies)


def sample_types(key: str) -> list[str]:
    """The element types of the first inputs of an operator's samples."""
    firsts = [item.inputs[0] for item in OPERATORS.get(key).samples if item.inputs]
    return list(dict.fromkeys(
        first.partition("[")[0] if isinstance(first, str) else dtype_from_numpy(first.dtype).name
        for first in firsts if first is not None
    ))


def histories(domain: str) -> dict[str, list[onnx.defs.OpSchema]]:
    """All versions of each operator of a domain, oldest first; none for those ONNX forgot."""
    found: dict[str, list[onnx.defs.OpSchema]] = {name: [] for name in adapted_types(domain)}
    for key in OPERATORS.names():
        owner, _, name = key.rpartition(".")
        if owner == domain and (domain == MICROSOFT):
            found.setdefault(name, [])
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == domain:
            found.setdefault(schema.name, []).append(schema)
    return {
        name: sorted(found[name], key=lambda schema: schema.since_version) for name in sorted(found)
    }


def ranges(
    domain: str, name: str, history: Sequence[onnx.defs.OpSchema]
) -> Iterator[tuple[str, int, str, tuple[str, ...]]]:
    """(opsets, an opset among them, how it is handled, as which operators), oldest first."""
    starts = [schema.since_version for schema in history] or [1]
    gone = bool(history) and history[-1].deprecated
    if gone:
        starts.pop()
    pieces: list[tuple[int, str, tuple[str, ...]]] = []
    for start in starts:
        kind, _ = classify(domain, name, start)
        piece = (start, kind, replacements(domain, name, start))
        if not pieces or pieces[-1][1:] != piece[1:]:
            pieces.append(piece)
    ends = [start - 1 for start, _, _ in pieces[1:]]
    ends.append(history[-1].since_version - 1 if gone else 0)
    for (start, kind, names), end in zip(pieces, ends, strict=True):
        opsets = f"{start}+" if not end else f"{start}" if start == end else f"{start}-{end}"
        yield opsets, start, kind, names


def rows_of(domain: str, name: str, history: Sequence[onnx.defs.OpSchema]) -> Iterator[Row]:
    """The lines of one operator."""
    key = f"{domain}.{name}" if domain else name
    for opsets, start, kind, names in ranges(domain, name, history):
        if kind == UNSUPPORTED:
            yield Row(name, opsets, "missing", notes=classify(domain, name, start)[1])
        elif key == "Constant":
            yield Row(name, opsets, "compiled", notes="a constant of the engine")
        elif names != (key,):
            others = ", ".join(dict.fromkeys(names))
            yield Row(name, opsets, RUNS[kind], notes=f"as {others}")
        elif kind == EXPANDED and OPERATORS.find(key) is None:
            yield Row(name, opsets, "compiled", notes="as the function that is its meaning in ONNX")
        else:
            yield tried(domain, name, opsets)


def tried(domain: str, name: str, opsets: str) -> Row:
    """The line of an operator that Bessemer has a class for."""
    key = f"{domain}.{name}" if domain else name
    found = findings(domain, name)
    translated = [step.until for step in steps(domain, name) if step.until < EVERY]
    notes = [f"opsets up to {max(translated)} are translated"] if translated else []
    notes += dict.fromkeys(plain(reason) for reason in found.reasons if is_news(reason))
    if issubclass(OPERATORS.get(key), ControlOperator):
        return Row(name, opsets, "bodies compiled", notes="; ".join(notes))
    runs = "compiled" if found.compiled else "host"
    if not OPERATORS.get(key).deterministic:
        notes.append("random")
    return Row(name, opsets, runs, short(found.compiled), short(found.host), "; ".join(notes))


def is_news(reason: str) -> bool:
    """False for what the other columns say."""
    return not any(
        known in reason for known in ("has no tensor expression", "kernels do not compute")
    )


def own_rows() -> Iterator[Row]:
    """Operators that no format has: passes put them in."""
    for key in OPERATORS.names():
        if key.startswith("bessemer."):
            cls = OPERATORS.get(key)
            summary = " ".join((cls.__doc__ or "").strip().split("\n\n")[0].split())
            yield Row(key, "", "compiled" if cls.has_lowering() else "host", notes=summary)


def make_page() -> str:
    """The text of the page."""
    parts = []
    for domain in DOMAINS:
        rows = [row for name, history in histories(domain).items()
                for row in rows_of(domain, name, history)]
        counts = [f"{sum(row.runs == runs for row in rows)} {runs}"
                  for runs in ("compiled", "bodies compiled", "host", "missing")]
        parts.append(f"## {domain or 'ai.onnx'}\n\n{', '.join(counts)}.\n\n"
                     f"{TABLE}{''.join(map(str, rows))}\n")
    parts.append("## Bessemer's own\n\nPasses put them in; no model has them.\n\n"
                 f"{TABLE}{''.join(map(str, own_rows()))}")
    return HEAD.format(version=onnx.__version__) + "".join(parts)


def main() -> int:
    """Writes or checks the page."""
    warnings.simplefilter("ignore")
    text = make_page()
    if "--check" in sys.argv:
        current = PAGE.exists() and PAGE.read_text() == text
        if not current:
            print("docs/operators.md is out of date; run: make pages", file=sys.stderr)
        return 0 if current else 1
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
