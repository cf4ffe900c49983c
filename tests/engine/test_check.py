"""Plans that contradict themselves are refused, each with the place and the reason."""

import dataclasses

import numpy as np
import pytest

from bessemer.core.errors import EngineFormatError
from bessemer.debug.tiny_engine import tiny_plan
from bessemer.engine.check import check_engine, check_plan
from bessemer.engine.plan import (
    Binding,
    BufferRef,
    EngineData,
    HostStep,
    KernelStep,
    Plan,
    TensorRef,
)

GOOD = tiny_plan(16)


def kernel(ref: BufferRef) -> Plan:
    return dataclasses.replace(GOOD, steps=(KernelStep("k", "k", (ref,)),))


def host(ref: TensorRef, output: bool = False) -> Plan:
    step = HostStep("h", {}, () if output else (ref,), (ref,) if output else ())
    return dataclasses.replace(GOOD, steps=(step,), host_slots=2)


def output(source: BufferRef, binding: Binding | None = None) -> Plan:
    made = dataclasses.replace(binding or GOOD.outputs[0], source=source)
    return dataclasses.replace(GOOD, outputs=(made,), steps=())


def test_good_plan() -> None:
    check_plan(GOOD, 64)


@pytest.mark.parametrize("plan, words", [
    (kernel(BufferRef("arena", 100, 64)), "arena lie outside"),
    (kernel(BufferRef("arena", 0, 8, byte=8)), "arena lie outside"),
    (kernel(BufferRef("constant", 0, 65)), "constant lie outside"),
    (kernel(BufferRef("input", 1, 4)), "input 1 does not exist"),
    (kernel(BufferRef("input", 0, 64, byte=4)), "input 0 lie outside"),
    (kernel(BufferRef("output", 0, 65)), "output 0 lie outside"),
    (kernel(BufferRef("host", 0, 0)), "cannot use the space 'host'"),
    (host(TensorRef(BufferRef("host", 2, 0), "f32", None)), "host slot 2 of 2"),
    (host(TensorRef(BufferRef("arena", 0, 64), "f32", (15,))), "takes 60 bytes, not 64"),
    (host(TensorRef(BufferRef("arena", 0, 64), "f32", None)), "needs a dtype and a shape"),
    (host(TensorRef(BufferRef("arena", 0, 64), "string", (8,))), "needs a dtype and a shape"),
    (host(TensorRef(BufferRef("constant", 0, 64), "f32", (16,)), output=True), "read-only"),
    (host(TensorRef(BufferRef("input", 0, 64), "f32", (16,)), output=True), "read-only"),
    (output(BufferRef("constant", 0, 60)), "the output takes 64 bytes, its source 60"),
    (output(BufferRef("output", 0, 64)), "cannot be an output"),
    (output(BufferRef("host", 0, 0)), "host slot 0 of 0"),
    (output(BufferRef("arena", 0, 64), Binding("y", "f32", ("N",))), "open shape"),
    (dataclasses.replace(GOOD, binding_alignment=48), "no power of two"),
    (dataclasses.replace(GOOD, inputs=GOOD.inputs * 2), "not unique"),
    (dataclasses.replace(GOOD, zeroed=(BufferRef("input", 0, 4),)), "must lie in the arena"),
])
def test_inconsistent_plan(plan: Plan, words: str) -> None:
    with pytest.raises(EngineFormatError, match=words):
        check_plan(plan, 64)


def test_constants_must_not_overlap() -> None:
    a = np.zeros(16, np.float32)
    with pytest.raises(EngineFormatError, match="overlaps"):
        check_engine(EngineData(GOOD, constants=((0, a), (0, a))))
    with pytest.raises(EngineFormatError, match="aligned"):
        check_engine(EngineData(GOOD, constants=((0, a), (100, a))))


def test_variant_without_code() -> None:
    a = np.zeros(16, np.float32)
    with pytest.raises(EngineFormatError, match="no code for variants"):
        check_engine(EngineData(GOOD, requires={"avx2": ("avx2",)}, constants=((0, a),)))


def test_variant_plans_share_bindings() -> None:
    other = dataclasses.replace(GOOD, inputs=(Binding("z", "f32", (16,)),))
    data = EngineData(
        GOOD, {"v": ()}, constants=((0, np.zeros(16, np.float32)),), plans={"v": other}
    )
    with pytest.raises(EngineFormatError, match="other bindings"):
        check_engine(data)
