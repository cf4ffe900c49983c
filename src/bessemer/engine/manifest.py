"""The plan as JSON and back. Start at `encode_manifest` and `decode_manifest`."""

from dataclasses import dataclass, field
from typing import Any

from bessemer.core.dtypes import DTYPES
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
    FORMAT_VERSION,
    SPACES,
    Binding,
    BufferRef,
    HostStep,
    KernelStep,
    MemoryReport,
    MemoryRow,
    NodeRecord,
    PassRecord,
    Plan,
    Step,
    TensorRef,
)

MAX_RANK = 64
_EXTENT = integer(0, 1 << 46)
_STEP_INDEX = integer(-1, 1 << 31)
_DTYPE = choice("", *DTYPES)
_TEXTS = tuple_of(TEXT)


def _decode_extent(value: Any, where: str) -> int | str | None:
    if value is None or isinstance(value, str):
        return value
    return _EXTENT.decode(value, where)


_BUFFER = row(BufferRef, {
    "space": choice(*SPACES), "offset": COUNT, "size_bytes": COUNT, "byte": COUNT,
})
_TENSOR = row(TensorRef, {
    "buffer": _BUFFER, "dtype": _DTYPE, "shape": optional(tuple_of(_EXTENT, MAX_RANK)),
})
_BINDING = record(Binding, {
    "name": TEXT, "dtype": _DTYPE,
    "shape": optional(tuple_of(Codec(lambda value: value, _decode_extent), MAX_RANK)),
    "source": optional(_BUFFER),
})
_KERNEL = record(KernelStep, {
    "name": TEXT, "symbol": TEXT, "args": tuple_of(_BUFFER), "sources": _TEXTS,
    "flops": LARGE_COUNT, "bytes": LARGE_COUNT, "rule": TEXT, "schedule": TEXT, "shapes": TEXT,
    "parallel": FLAG, "barrier_after": FLAG, "notes": _TEXTS,
})
_HOST = record(HostStep, {
    "name": TEXT, "operator": JSON_OBJECT, "inputs": tuple_of(optional(_TENSOR)),
    "outputs": tuple_of(optional(_TENSOR)), "sources": _TEXTS, "reason": TEXT,
})


def _encode_step(step: Step) -> dict[str, Any]:
    if isinstance(step, KernelStep):
        return {"kernel": _KERNEL.encode(step)}
    return {"host": _HOST.encode(step)}


def _decode_step(value: Any, where: str) -> Step:
    if isinstance(value, dict) and list(value) == ["kernel"]:
        return _KERNEL.decode(value["kernel"], f"{where}.kernel")
    if isinstance(value, dict) and list(value) == ["host"]:
        return _HOST.decode(value["host"], f"{where}.host")
    raise wrong(where, "an object with the one field kernel or host", value)


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
    "nodes": tuple_of(_NODE), "format_version": integer(1, FORMAT_VERSION),
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
