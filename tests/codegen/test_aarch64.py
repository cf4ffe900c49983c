"""AArch64 code, cross-compiled and run in QEMU."""

import numpy as np
import pytest

from bessemer.codegen.llvm.emit import emit_assembly, emit_object
from bessemer.codegen.llvm.freestanding import missing_tools, run_on_qemu
from bessemer.core.errors import CodegenError
from bessemer.targets import get_target

TARGET = get_target("aarch64-neon")
needs_qemu = pytest.mark.skipif(bool(missing_tools()), reason=missing_tools() or "none")

SCALE = """
declare <4 x float> @llvm.fma.v4f32(<4 x float>, <4 x float>, <4 x float>)
define void @scale(ptr %args, i64 %thread, i64 %threads) {
  %x = load ptr, ptr %args
  %py = getelementptr ptr, ptr %args, i64 1
  %y = load ptr, ptr %py
  %first = mul i64 %thread, 4
  %step = mul i64 %threads, 4
  br label %loop
loop:
  %i = phi i64 [%first, %0], [%next, %loop]
  %px = getelementptr float, ptr %x, i64 %i
  %pz = getelementptr float, ptr %y, i64 %i
  %v = load <4 x float>, ptr %px
  %w = call <4 x float> @llvm.fma.v4f32(<4 x float> %v, <4 x float> splat (float 2.0),
                                        <4 x float> splat (float 1.0))
  store <4 x float> %w, ptr %pz
  %next = add i64 %i, %step
  %more = icmp ult i64 %next, 64
  br i1 %more, label %loop, label %end
end:
  ret void
}
"""


def test_uses_vector_fma():
    assert "fmla" in emit_assembly(SCALE, TARGET)


@needs_qemu
@pytest.mark.parametrize("threads", [1, 3])
def test_run(threads):
    x = np.arange(64, dtype=np.float32)
    (y,) = run_on_qemu(
        emit_object(SCALE, TARGET), "scale", [x, np.zeros_like(x)], [1], threads=threads)
    np.testing.assert_array_equal(y, 2 * x + 1)


@needs_qemu
def test_writing_outside_is_noticed():
    x = np.arange(64, dtype=np.float32)
    body = emit_object(SCALE, TARGET)
    with pytest.raises(CodegenError, match="at byte 240 of buffer 1, which has 240 bytes"):
        run_on_qemu(body, "scale", [x, np.zeros(60, np.float32)], [1])
    with pytest.raises(CodegenError, match="at byte 2 of buffer 1"):
        run_on_qemu(body, "scale", [x, np.zeros(64, np.float32)], [])


@needs_qemu
def test_library_functions_are_refused():
    text = """
declare double @exp(double)
define void @k(ptr %args, i64 %thread, i64 %threads) {
  %p = load ptr, ptr %args
  %v = load double, ptr %p
  %w = call double @exp(double %v)
  store double %w, ptr %p
  ret void
}
"""
    with pytest.raises(CodegenError, match=r"cannot link kernel k(.|\n)*exp"):
        run_on_qemu(emit_object(text, TARGET), "k", [np.zeros(1)], [0])


@needs_qemu
def test_a_crash_is_an_error():
    text = """
define void @k(ptr %args, i64 %thread, i64 %threads) {
  store volatile i8 1, ptr null
  ret void
}
"""
    with pytest.raises(CodegenError, match="kernel k failed in QEMU"):
        run_on_qemu(emit_object(text, TARGET), "k", [b"x"], [0])
