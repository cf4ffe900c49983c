"""The plan as JSON: equal after a round trip, strict against anything else."""

import json

import numpy as np
import pytest

from bessemer.core.errors import EngineFormatError
from bessemer.debug.tiny_engine import tiny_plan
from bessemer.engine.fields import dump_json
from bessemer.engine.manifest import (
    Manifest,
    VariantEntry,
    decode_manifest,
    decode_plan,
    encode_manifest,
    encode_plan,
)
from bessemer.engine.plan import Binding, BufferRef, HostStep, KernelStep, Plan, TensorRef

HOST = HostStep(
    "unique", {"op": "Unique", "attributes": {"sorted": 1}},
    (TensorRef(BufferRef("input", 0, 16), "f32", (4,)), None),
    (TensorRef(BufferRef("host", 0, 0), "", None),), ("Unique_7",), "no tensor expression",
)
PLAN = Plan(
    "mixed",
    (Binding("x", "f32", (4,)), Binding("ids", "i64", ("N", None)), Binding("s", "", None)),
    (Binding("y", "f32", None, BufferRef("host", 0, 0)),),
    (HOST, *tiny_plan(8).steps), 4096, 1, zeroed=(BufferRef("arena", 0, 64),),
)


@pytest.mark.parametrize("plan", [PLAN, tiny_plan(1000), Plan("empty", (), (), ())])
def test_round_trip(plan: Plan) -> None:
    manifest = Manifest(plan, (VariantEntry("v", "x86_64", ("avx2",), (3, 4)),), {"v": plan})
    text = encode_manifest(manifest)
    assert decode_manifest(text) == manifest
    assert encode_manifest(decode_manifest(text)) == text


def _changed(path: str, value: object) -> object:
    data = json.loads(json.dumps(encode_plan(PLAN)))
    place = data
    *parents, last = path.split(".")
    for part in parents:
        place = place[int(part)] if isinstance(place, list) else place[part]
    place[int(last) if isinstance(place, list) else last] = value
    return data


@pytest.mark.parametrize("path, value", [
    ("name", 3), ("name", None), ("inputs", {}), ("inputs.0.dtype", "f31"), ("inputs.0.shape", 4),
    ("inputs.0.shape.0", -1), ("inputs.0.shape.0", 1.0), ("inputs.0.shape.0", True),
    ("inputs.1.shape.0", []), ("steps.0", {}), ("steps.0", {"kernel": {}, "host": {}}),
    ("steps.0.host.operator", []), ("steps.0.host.inputs.0.0", ["moon", 0, 1, 0]),
    ("steps.0.host.inputs.0.0.1", -1), ("steps.0.host.inputs.0.0.1", 1 << 80),
    ("steps.0.host.inputs.0.0.1", "0"), ("steps.0.host.inputs.0.2", [1] * 65),
    ("steps.1.kernel.args", "xyz"), ("steps.1.kernel.args.0", [1, 2]), ("steps.1.kernel.flops", -5),
    ("steps.1.kernel.parallel", 1), ("steps.1.kernel.symbol", ["a"]), ("arena_bytes", 1e300),
    ("arena_bytes", 1 << 60), ("host_slots", -1), ("format_version", 0), ("format_version", 99),
    ("binding_alignment", 0), ("zeroed", None), ("unknown_field", 1), ("memory", []),
    ("memory", {"table": [[1]]}), ("options", 7), ("versions", {"a": 1}), ("nodes", [["a"]]),
])
def test_hostile_values_name_the_field(path: str, value: object) -> None:
    data = _changed(path, value)
    with pytest.raises(EngineFormatError, match="manifest field plan"):
        decode_plan(data)


def test_missing_field() -> None:
    with pytest.raises(EngineFormatError, match="name"):
        decode_plan({"inputs": [], "outputs": [], "steps": []})


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b"[" * 100_000, b"\xff\xfe", b'{"plan": NaN}',
                                  b"1" * 10_000])
def test_not_a_manifest(text: bytes) -> None:
    with pytest.raises(EngineFormatError):
        decode_manifest(text)


def test_plan_must_be_json() -> None:
    plan = Plan("p", (), (), (KernelStep("k", "k", ()),), options={"x": np.float32(1)})
    with pytest.raises(EngineFormatError, match="not JSON"):
        dump_json(encode_plan(plan))
