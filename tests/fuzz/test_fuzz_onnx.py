"""A short run of the fuzzer of ONNX files; `python -m bessemer.debug.fuzz_onnx` is the long one."""

import onnx
import pytest

from bessemer.core.errors import BessemerError
from bessemer.debug.fuzz_onnx import GOOD, case_bytes, fuzz, try_case
from bessemer.debug.onnx_seeds import seed_models
from bessemer.frontends import import_model

SEEDS = seed_models()


@pytest.mark.parametrize("name", sorted(SEEDS))
def test_seeds_are_valid(name):
    onnx.checker.check_model(onnx.load_model_from_string(SEEDS[name]))
    assert import_model(SEEDS[name]).outputs


def test_cases_are_repeatable():
    again = seed_models()
    assert again == SEEDS
    for index in range(20):
        assert case_bytes(1, index, SEEDS) == case_bytes(1, index, again)


def test_mutated_files_import_or_fail_cleanly():
    for index in range(400):
        status, message = try_case(case_bytes(7, index, SEEDS), "import")
        assert status in GOOD, f"case {index} of seed 7: {status}: {message}"


def test_worker_reports():
    report = fuzz(40, seed=7, stage="import")
    assert report.counts.total() == 40
    assert not report.findings


def test_errors_are_ours():
    with pytest.raises(BessemerError):
        import_model(SEEDS["convolutional"][:200])
