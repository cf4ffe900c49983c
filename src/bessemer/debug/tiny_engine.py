"""Small engines assembled by hand from LLVM IR: for tests and for fuzzing the engine file."""

import dataclasses
from typing import Any

import numpy as np

from bessemer.codegen.llvm.driver import driver_module
from bessemer.codegen.llvm.emit import emit_object
from bessemer.engine.plan import (
    Binding,
    BufferRef,
    EngineData,
    KernelStep,
    MemoryReport,
    MemoryRow,
    NodeRecord,
    PassRecord,
    Plan,
)
from bessemer.targets import Target, get_target

Array = np.ndarray[Any, Any]

_LOOP = """
define void @{name}(ptr %args, i64 %thread, i64 %threads) {{
entry:
  %a = load ptr, ptr %args
  %b_at = getelementptr i8, ptr %args, i64 8
  %b = load ptr, ptr %b_at
  %out_at = getelementptr i8, ptr %args, i64 16
  %out = load ptr, ptr %out_at
  br label %head
head:
  %i = phi i64 [ %thread, %entry ], [ %next, %body ]
  %more = icmp ult i64 %i, {count}
  br i1 %more, label %body, label %done
body:
  %a_i = getelementptr float, ptr %a, i64 %i
  %b_i = getelementptr float, ptr %b, i64 %i
  %out_i = getelementptr float, ptr %out, i64 %i
  %x = load float, ptr %a_i
  %y = load float, ptr %b_i
  %z = {operation} float %x, %y
  store float %z, ptr %out_i
  %next = add i64 %i, %threads
  br label %head
done:
  ret void
}}
"""


def elementwise_ir(name: str, operation: str, count: int) -> str:
    """IR of a kernel `out[i] = a[i] operation b[i]` over f32; threads take turns by element."""
    return _LOOP.format(name=name, operation=operation, count=count)


def arena(offset: int, count: int) -> BufferRef:
    """f32 elements in the arena."""
    return BufferRef("arena", offset, 4 * count)


def tiny_plan(count: int, name: str = "tiny") -> Plan:
    """Computes y = (x + c) * (x + c) + c in three kernels; every field of a plan is in use."""
    size = 4 * count
    step = -(-size // 64) * 64
    x, y = BufferRef("input", 0, size), BufferRef("output", 0, size)
    c, first, second = BufferRef("constant", 0, size), arena(0, count), arena(step, count)
    table = (
        MemoryRow("sum", 0, size, 0, 1),
        MemoryRow("square", step, size, 1, 2, alias_of="sum"),
    )
    return Plan(
        name,
        (Binding("x", "f32", (count,)),),
        (Binding("y", "f32", (count,)),),
        (
            KernelStep("add", "tiny_add", (x, c, first), ("Add_0",), count, 3 * size, "loop"),
            KernelStep("square", "tiny_mul", (first, first, second), ("Mul_1",), count),
            KernelStep("shift", "tiny_add", (second, c, y), ("Add_2", "Relu_3"), count),
        ),
        arena_bytes=step + size,
        binding_alignment=4,
        memory=MemoryReport(step + size, size, 0, 2 * size, step + size, table),
        options={"precision": "fp32"},
        versions={"bessemer": "0"},
        passes=(PassRecord("fold-constants", True, 4, 3, ("folded one",)),),
        notes=("made by hand",),
        nodes=(NodeRecord("Add_0", "Add", 0, "kernel"), NodeRecord("Relu_3", "Relu", 2, "fused")),
    )


def tiny_answer(x: Array, constant: Array) -> Array:
    """What the tiny engine computes."""
    total: Array = x + constant
    return np.asarray(total * total + constant)


def tiny_engine_data(
    count: int = 1000, target: Target | None = None, requires: tuple[str, ...] = ()
) -> tuple[EngineData, Array]:
    """Data of the tiny engine and its constant."""
    chosen = target or get_target("host")
    text = elementwise_ir("tiny_add", "fadd", count) + elementwise_ir("tiny_mul", "fmul", count)
    kernels = emit_object(text, chosen)
    driver = emit_object(driver_module(chosen), chosen)
    constant = np.linspace(-1, 1, count, dtype=np.float32)
    data = EngineData(
        tiny_plan(count), {"base": (kernels, driver)}, {"base": requires}, ((0, constant),)
    )
    return data, constant


def with_plan(data: EngineData, **changes: object) -> EngineData:
    """The same engine with some fields of its plan replaced."""
    return dataclasses.replace(data, plan=dataclasses.replace(data.plan, **changes))  # type: ignore[arg-type]
