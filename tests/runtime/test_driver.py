"""The driver's caller side on AArch64, in QEMU: no worker comes, so the caller takes all pieces."""

import dataclasses

import numpy as np
import pytest

from bessemer.codegen.llvm.driver import driver_module
from bessemer.codegen.llvm.emit import emit_object
from bessemer.codegen.llvm.freestanding import missing_tools, run_on_qemu
from bessemer.core import driver_abi as abi
from bessemer.core.errors import CodegenError
from bessemer.debug.tiny_engine import elementwise_ir
from bessemer.targets import get_target

ARM = get_target("aarch64-neon")
COUNT = 50
SHIFT = abi.PIECES_SHIFT

# args: pool, request, jobs, argument arrays, a, b, sum, product
ENTRY = f"""
define void @entry(ptr %args, i64 %thread, i64 %threads) {{
  %pool = load ptr, ptr %args
  %request_p = getelementptr ptr, ptr %args, i64 1
  %request = load ptr, ptr %request_p
  %jobs_p = getelementptr ptr, ptr %args, i64 2
  %jobs = load ptr, ptr %jobs_p
  %first = getelementptr ptr, ptr %args, i64 4
  %second = getelementptr ptr, ptr %args, i64 5
  store ptr @add, ptr %jobs
  %job_args = getelementptr i8, ptr %jobs, i64 {abi.JOB_ARGUMENTS}
  store ptr %first, ptr %job_args
  %job2 = getelementptr i8, ptr %jobs, i64 {abi.JOB_BYTES}
  store ptr @mul, ptr %job2
  %job2_args = getelementptr i8, ptr %job2, i64 {abi.JOB_ARGUMENTS}
  store ptr %second, ptr %job2_args
  store ptr %pool, ptr %request
  %jobs_at = getelementptr i8, ptr %request, i64 {abi.REQUEST_JOBS}
  store ptr %jobs, ptr %jobs_at
  %used = call i64 @{abi.RUN}(ptr %request)
  %used_at = getelementptr i8, ptr %request, i64 56
  store i64 %used, ptr %used_at
  ret void
}}
"""


@pytest.mark.skipif(bool(missing_tools()), reason=missing_tools() or "none")
@pytest.mark.parametrize("threads, flags, busy, used", [
    (1, (3, 3), 0, 1), (3, (3, 3), 0, 3), (4, (0, 3), 0, 4), (3, (1, 1), 0, 3), (3, (3, 3), 1, 1),
    (1, (7, 7), 0, 1), (3, (7, 3), 0, 3),
    # So many pieces; more than a part can have; fewer than there are threads; of a sweep.
    (3, (3 | 12 << SHIFT, 3 | 9999 << SHIFT), 0, 3), (3, (3 | 2 << SHIFT, 7 | 33 << SHIFT), 0, 3),
    (1, (3 | 12 << SHIFT, 7 | 9 << SHIFT), 0, 1),
])
def test_caller_side(threads: int, flags: tuple[int, int], busy: int, used: int) -> None:
    pool = np.zeros((abi.POOL_HEADER_BYTES + 4 * abi.THREAD_BYTES) // 8, np.uint64)
    pool[abi.POOL_BUSY // 8] = busy
    pool[abi.POOL_SIZE // 8] = 1
    request = np.zeros(abi.REQUEST_BYTES // 8, np.uint64)
    request[abi.REQUEST_COUNT // 8] = 2
    request[abi.REQUEST_THREADS // 8] = threads
    jobs = np.zeros(2 * abi.JOB_BYTES // 8, np.uint64)
    jobs[abi.JOB_FLAGS // 8 :: abi.JOB_BYTES // 8] = flags
    a, b = np.arange(COUNT, dtype=np.float32), np.full(COUNT, 3, np.float32)
    zeros = np.zeros(COUNT, np.float32)
    text = driver_module(ARM) + ENTRY
    text += elementwise_ir("add", "fadd", COUNT) + elementwise_ir("mul", "fmul", COUNT)
    got = run_on_qemu(
        emit_object(text, ARM), "entry",
        [pool, request, jobs, np.zeros(1), a, b, zeros, zeros.copy()], [0, 1, 2, 6, 7],
    )
    np.testing.assert_array_equal(got[3], a + b)
    np.testing.assert_array_equal(got[4], b * (a + b))
    assert got[1][7] == used


def test_unknown_architecture() -> None:
    with pytest.raises(CodegenError, match="no native driver for the architecture 'riscv64'"):
        driver_module(dataclasses.replace(ARM, triple="riscv64-unknown-linux-gnu"))
