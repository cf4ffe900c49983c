"""The plan as JSON and back. Start at `encode_manifest` and `decode_manifest`."""

from dataclasses import field
from typing import Any

from bessemer.core.assumptions import RELATIONS
from bessemer.core.dtypes import DTYPES
from bessemer.core.frozen import dataclass
from bessemer.engine.fields import (
    COUNT,
    FLAG,
    JSON_OBJECT,
    LARGE_COUNT,
    TEXT,
    Codec,
    choice,
    dump_json,
    integer,
    load_json,
    map_of,
    optional,
    record,
    row,
    tuple_of,
    wrong,
)
from bessemer.engine.plan import (
    SPACES,
    SYMBOL_SOURCES,
    Binding,
    BlockRecord,
    BufferRef,
    Condition,
    Extent,
    HostStep,
    KernelStep,
    MemoryReport,
    MemoryRow,
    NodeRecord,
    PassRecord,
    Plan,
    ShapeStep,
    Step,
    StoredConstant,
    StoredGraph,
    SymbolRecord,
    TensorRef,
)

MAX_RANK = 64
MAX_DEPTH = 32
"""Bodies in bodies may nest this deep."""
_NUMBER = integer(0, 1 << 46)
_ANY_NUMBER = integer(-(1 << 63), (1 << 63) - 1)
_STEP_INDEX = integer(-1, 1 << 31)
_DTYPE = choice("", *DTYPES)
_TEXTS = tuple_of(TEXT)


def _or_formula(number: Codec[int]) -> Codec[Extent]:
    """A number or a formula, whose text `engine.check` reads."""
    decode_number = number.decode

    def decode(value: Any, where: str) -> Extent:
        return TEXT.decode(value, where) if type(value) is str else decode_number(value, where)

    return Codec(lambda value: value, decode)


_EXTENT = _or_formula(_NUMBER)
_VALUE = _or_formula(_ANY_NUMBER)
_BUFFER = row(BufferRef, {
    "space": choice(*SPACES), "offset": COUNT, "size_bytes": _EXTENT, "byte": _EXTENT,
})
_TENSOR = row(TensorRef, {
    "buffer": _BUFFER, "dtype": _DTYPE, "shape": optional(tuple_of(_EXTENT, MAX_RANK)),
})
_BINDING = record(Binding, {
    "name": TEXT, "dtype": _DTYPE, "shape": optional(tuple_of(optional(_EXTENT), MAX_RANK)),
    "source": optional(_BUFFER),
})
_KERNEL = record(KernelStep, {
    "name": TEXT, "symbol": TEXT, "args": tuple_of(_BUFFER), "sources": _TEXTS,
    "flops": LARGE_COUNT, "bytes": LARGE_COUNT, "rule": TEXT, "schedule": TEXT, "shapes": TEXT,
    "parallel": FLAG, "barrier_after": FLAG, "notes": _TEXTS, "scalars": _TEXTS,
    "work": tuple_of(_or_formula(LARGE_COUNT), 2), "instructions": LARGE_COUNT,
})


def _decode_body(value: Any, where: str) -> Plan:
    if where.count(".bodies.") > MAX_DEPTH:
        raise wrong(where, f"bodies nested at most {MAX_DEPTH} deep", value)
    return PLAN.decode(value, where)


_HOST = record(HostStep, {
    "name": TEXT, "operator": JSON_OBJECT, "inputs": tuple_of(optional(_TENSOR)),
    "outputs": tuple_of(optional(_TENSOR)), "sources": _TEXTS, "reason": TEXT,
    "bodies": map_of(Codec(lambda plan: PLAN.encode(plan), _decode_body)),
})
_SHAPE = record(ShapeStep, {
    "name": TEXT, "output": _TENSOR, "values": tuple_of(_VALUE), "sources": _TEXTS,
})
_STEPS: dict[str, tuple[type[Step], Codec[Any]]] = {
    "kernel": (KernelStep, _KERNEL), "host": (HostStep, _HOST), "shape": (ShapeStep, _SHAPE),
}


def _encode_step(step: Step) -> dict[str, Any]:
    return next({k: codec.encode(step)} for k, (cls, codec) in _STEPS.items()
                if isinstance(step, cls))


def _decode_step(value: Any, where: str) -> Step:
    if isinstance(value, dict) and len(value) == 1:
        ((kind, content),) = value.items()
        if kind in _STEPS:
            made: Step = _STEPS[kind][1].decode(content, f"{where}.{kind}")
            return made
    raise wrong(where, f"an object with one of the fields {', '.join(_STEPS)}", value)


def _decode_source(value: Any, where: str) -> tuple[Extent, ...]:
    if not isinstance(value, list) or not value:
        raise wrong(where, "a kind of source and its numbers", value)
    kind = choice(*SYMBOL_SOURCES).decode(value[0], where)
    return (kind, *tuple_of(COUNT, 3).decode(value[1:], where))


_SYMBOL = row(SymbolRecord, {
    "name": TEXT, "low": _ANY_NUMBER, "high": optional(_ANY_NUMBER), "hint": optional(_ANY_NUMBER),
    "source": Codec(list, _decode_source),
})
_CONDITION = row(Condition, {
    "relation": choice(*RELATIONS), "left": _EXTENT, "right": _EXTENT, "source": TEXT,
})
_BLOCK = row(BlockRecord, {
    "size": _EXTENT, "below": tuple_of(COUNT), "epoch": integer(0, 1 << 16),
})
_MEMORY = record(MemoryReport, {
    "arena_bytes": COUNT, "weights_bytes": COUNT, "workspace_bytes": COUNT,
    "sum_of_tensors_bytes": COUNT, "liveness_lower_bound_bytes": COUNT,
    "table": tuple_of(row(MemoryRow, {
        "value": TEXT, "offset": COUNT, "size_bytes": COUNT, "first_step": _STEP_INDEX,
        "last_step": _STEP_INDEX, "alias_of": TEXT,
    })),
})
_PASS = record(PassRecord, {
    "name": TEXT, "changed": FLAG, "nodes_before": COUNT, "nodes_after": COUNT, "notes": _TEXTS,
})
_NODE = row(NodeRecord, {"name": TEXT, "operator": TEXT, "step": _STEP_INDEX, "why": TEXT})

PLAN: Codec[Plan] = record(Plan, {
    "name": TEXT, "inputs": tuple_of(_BINDING), "outputs": tuple_of(_BINDING),
    "steps": tuple_of(Codec(_encode_step, _decode_step)), "arena_bytes": COUNT,
    "host_slots": integer(0, 1 << 22), "binding_alignment": integer(1, 4096),
    "zeroed": tuple_of(_BUFFER), "memory": _MEMORY, "options": JSON_OBJECT,
    "versions": map_of(TEXT), "passes": tuple_of(_PASS), "notes": _TEXTS,
    "nodes": tuple_of(_NODE), "symbols": tuple_of(_SYMBOL, 1 << 16), "blocks": tuple_of(_BLOCK),
    "epochs": tuple_of(COUNT, 1 << 16), "conditions": tuple_of(_CONDITION),
})


@dataclass(frozen=True)
class VariantEntry:
    """One machine-code variant: the architecture, CPU features it needs, sizes of its objects."""

    name: str
    machine: str
    requires: tuple[str, ...] = ()
    objects: tuple[int, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """What the manifest section holds."""

    plan: Plan
    variants: tuple[VariantEntry, ...] = ()
    plans: dict[str, Plan] = field(default_factory=dict)


_MANIFEST = record(Manifest, {
    "plan": PLAN,
    "variants": tuple_of(record(VariantEntry, {
        "name": TEXT, "machine": TEXT, "requires": _TEXTS, "objects": tuple_of(COUNT),
    }), 1000),
    "plans": map_of(PLAN),
})


def _decode_graph_text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise wrong(where, "the text of a graph", value)
    return value


_SOURCE = record(StoredGraph, {
    "text": Codec(lambda value: value, _decode_graph_text),
    "constants": tuple_of(row(StoredConstant, {
        "key": TEXT, "offset": COUNT, "dtype": choice(*DTYPES),
        "shape": tuple_of(_NUMBER, MAX_RANK), "layout": TEXT,
    })),
    "strings": JSON_OBJECT,
})


def encode_source(source: StoredGraph) -> bytes:
    """The stored graph as canonical JSON."""
    return dump_json(_SOURCE.encode(source))


def decode_source(text: bytes) -> StoredGraph:
    """Parses a stored graph. Raises: EngineFormatError naming the field that is wrong."""
    return _SOURCE.decode(load_json(text), "source")


def encode_manifest(manifest: Manifest) -> bytes:
    """The manifest as canonical JSON."""
    return dump_json(_MANIFEST.encode(manifest))


def decode_manifest(text: bytes) -> Manifest:
    """Parses a manifest. Raises: EngineFormatError naming the field that is wrong."""
    return _MANIFEST.decode(load_json(text), "manifest")


def encode_plan(plan: Plan) -> dict[str, Any]:
    """The plan as JSON values, for reports and exports."""
    result: dict[str, Any] = PLAN.encode(plan)
    return result


def decode_plan(value: Any) -> Plan:
    """A plan from JSON values. Raises: EngineFormatError naming the field that is wrong."""
    return PLAN.decode(value, "plan")
