"""The measured peaks are plausible, and kernels for all targets compile."""

import pytest

from bessemer.bench.limits import Limits, _fma_text, _read_text, _working_sets, measure_limits
from bessemer.codegen.llvm.emit import emit_assembly
from bessemer.targets import TARGETS, get_target


def test_measured_peaks():
    limits = measure_limits(1)
    assert limits.threads == 1
    assert limits.fma_gflops > 1
    assert limits.l1_gbps > 1
    assert limits.dram_gbps > 0.1
    assert limits.dram_gbps < limits.l1_gbps * 2
    assert measure_limits(1) is limits
    assert "1 threads" in limits.describe()


def test_roofline():
    limits = Limits(2, 100.0, 400.0, 200.0, 50.0, 10.0)
    assert limits.attainable_gflops(1.0) == 10.0
    assert limits.attainable_gflops(1000.0) == 100.0


@pytest.mark.parametrize("name", TARGETS.names())
def test_kernels_stay_in_registers(name):
    target = get_target(name)
    text = emit_assembly(_fma_text(target), target)
    assert "call" not in text
    assert "(%rsp)" not in text
    for size in _working_sets(target, 2).values():
        assert size > 0
        assert emit_assembly(_read_text(target, "read", size), target)
