"""A small engine for all shapes, assembled by hand from LLVM IR: for tests and for fuzzing."""

import dataclasses
from typing import Any

import numpy as np

from bessemer.codegen.llvm.driver import driver_module
from bessemer.codegen.llvm.emit import emit_object
from bessemer.engine.plan import (
    Binding,
    BlockRecord,
    BufferRef,
    EngineData,
    Extent,
    HostStep,
    KernelStep,
    Plan,
    ShapeStep,
    Step,
    SymbolRecord,
    TensorRef,
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
  %count_at = getelementptr i8, ptr %args, i64 24
  %count = load i64, ptr %count_at
  br label %head
head:
  %i = phi i64 [ %thread, %entry ], [ %next, %body ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %body, label %done
body:
  %a_i = getelementptr {kind}, ptr %a, i64 %i
  %b_i = getelementptr {kind}, ptr %b, i64 %i
  %out_i = getelementptr {kind}, ptr %out, i64 %i
  %x = load {kind}, ptr %a_i
  %y = load {kind}, ptr %b_i
  %z = {operation} {kind} %x, %y
  store {kind} %z, ptr %out_i
  %next = add i64 %i, %threads
  br label %head
done:
  ret void
}}
"""


def counted_ir(name: str, operation: str, kind: str = "float") -> str:
    """IR of a kernel `out[i] = a[i] operation b[i]`; the number of elements is its one scalar."""
    return _LOOP.format(name=name, operation=operation, kind=kind)


def symbolic_objects(target: Target | None = None) -> tuple[bytes, bytes]:
    """The objects of the kernels `add`, `mul` (f32) and `add_i64`, and of the driver."""
    chosen = target or get_target("host")
    text = counted_ir("add", "fadd") + counted_ir("mul", "fmul") \
        + counted_ir("add_i64", "add", "i64")
    return emit_object(text, chosen), emit_object(driver_module(chosen), chosen)


def symbolic_plan() -> Plan:
    """For x of f32[N,H] and z of f32[2*N+1]: y = (x+x)*(x+x)+x; twice = 2*nonzero(x > 0 of y).

    Every kind of step, space and source of symbols is in it; the last kernel runs in epoch 1.
    """
    size = "4*N*H"
    x, y = BufferRef("input", 0, size), BufferRef("output", 0, size)
    blocks = tuple(BufferRef("block", i, s) for i, s in enumerate((size, size, "16*n", "16*n")))
    square = TensorRef(blocks[1], "f32", ("N", "H"))
    found = TensorRef(blocks[2], "i64", (2, "n"))
    return Plan(
        "symbolic",
        (Binding("x", "f32", ("N", "H")), Binding("z", "f32", ("2*N+1",))),
        (
            Binding("y", "f32", ("N", "H")), Binding("shape", "i64", (3,)),
            Binding("twice", "i64", (2, "n")), Binding("places", "i64", (2, "n"), blocks[2]),
            Binding("tail", "f32", ("N+1",), BufferRef("input", 1, "4*N+4", "4*N")),
        ),
        (
            KernelStep("add", "add", (x, x, blocks[0]), ("Add_0",), 12, 144, scalars=("N*H",),
                       work=("N*H", "12*N*H")),
            KernelStep("mul", "mul", (blocks[0], blocks[0], blocks[1]), scalars=("N*H",)),
            ShapeStep("shape", TensorRef(BufferRef("output", 1, 24), "i64", (3,)),
                      ("N", "H-3", "(N//2)"), ("Shape_1",)),
            HostStep("find", {"op": "NonZero", "attributes": {}}, (square,), (found,),
                     ("NonZero_2",), "its shape depends on data"),
            KernelStep("sum", "add", (blocks[1], x, y), scalars=("N*H",)),
            KernelStep("copy", "add_i64", (blocks[2], blocks[2], blocks[3]), scalars=("2*n",)),
            KernelStep("half", "add_i64", (blocks[2], blocks[2], BufferRef("output", 2, "16*n")),
                       scalars=("2*n",)),
        ),
        binding_alignment=4,
        symbols=(
            SymbolRecord("N", 0, 1000, 4, ("input", 0, 0)),
            SymbolRecord("H", 0, None, 3, ("input", 0, 1)),
            SymbolRecord("n", 0, None, 6, ("step", 3, 0, 1)),
        ),
        blocks=(
            BlockRecord(size), BlockRecord(size, (0,)),
            BlockRecord("16*n", epoch=1), BlockRecord("16*n", (2,), 1),
        ),
        epochs=(4,),
    )


def symbolic_engine_data(target: Target | None = None) -> EngineData:
    """Data of the symbolic engine."""
    return EngineData(symbolic_plan(), {"base": symbolic_objects(target)}, {"base": ()})


def host_data() -> EngineData:
    """The same engine without machine code: its kernels are host steps, so anybody may run it."""
    plan = symbolic_plan()
    refs: dict[int, tuple[str, str, tuple[Extent, ...]]] = {
        0: ("Add", "f32", ("N", "H")), 1: ("Mul", "f32", ("N", "H")), 4: ("Add", "f32", ("N", "H")),
        5: ("Add", "i64", (2, "n")), 6: ("Add", "i64", (2, "n")),
    }
    steps: list[Step] = list(plan.steps)
    for index, (op, dtype, shape) in refs.items():
        step = plan.steps[index]
        assert isinstance(step, KernelStep)
        *inputs, output = (TensorRef(ref, dtype, shape) for ref in step.args)
        operator = {"op": op, "attributes": {}}
        steps[index] = HostStep(step.name, operator, tuple(inputs), (output,), step.sources)
    return EngineData(dataclasses.replace(plan, name="formulas", steps=tuple(steps)))


def symbolic_inputs(n: int, h: int, seed: int = 0) -> dict[str, Array]:
    """Random inputs of these extents; about half of x is zero."""
    source = np.random.default_rng(seed)
    x = source.standard_normal((n, h)).astype(np.float32)
    return {"x": x * (x > 0), "z": np.arange(2 * n + 1, dtype=np.float32)}


def symbolic_answer(inputs: dict[str, Array]) -> dict[str, Array]:
    """What the symbolic engine computes."""
    x, z = inputs["x"], inputs["z"]
    places = np.array(np.nonzero((x + x) * (x + x)))
    n, h = x.shape
    return {
        "y": (x + x) * (x + x) + x, "shape": np.array([n, h - 3, n // 2]), "twice": 2 * places,
        "places": places, "tail": z[n:],
    }
