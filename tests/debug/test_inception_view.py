"""`inspect` shows the inception block of GoogLeNet before and after."""

import pytest

from bessemer.debug.compilation import block_lines, page_of
from bessemer.debug.explain import why_lines
from bessemer.debug.opening import open_compilation
from bessemer.debug.page import render_page
from bessemer.frontends import import_model
from bessemer.zoo import ZooOptions, make_model


@pytest.fixture(scope="module")
def compilation():
    model = make_model("googlenet", ZooOptions(size=64))
    return open_compilation(import_model(model))


def test_block_before_and_after(compilation):
    text = "\n".join(block_lines(compilation, "/inception3a/*"))
    before, rest = text.split("after the passes")
    after, compiled = rest.split("compiled")
    assert before.count("\n  Conv ") == before.count("\n  BatchNormalization ") == 6
    assert "BatchNormalization /" not in after.replace("+ /", "")
    assert after.count("\n  Conv ") < 6
    kernels = [line for line in compiled.splitlines() if "kernel by rule" in line]
    merged = [line for line in kernels if "branch1/conv/Conv" in line]
    assert len(merged) == 1
    assert "branch2/0/conv/Conv" in merged[0]
    assert "branch1/Relu" in merged[0]
    assert "no kernel for /inception3a/Concat: its pieces lie inside its tensor" in compiled


def test_why_names_rules_and_refusals(compilation):
    lines = why_lines(compilation.results, compilation.fusion)
    assert any(line.startswith("+ merge-horizontal-convolutions: ") for line in lines)
    assert any(line.startswith("+ place-concats: ") for line in lines)
    assert any("rule 3" in line for line in lines if line.startswith("= fusion: "))
    assert any(line.startswith("- ") for line in lines)


def test_page_of_a_network(compilation):
    page = render_page(page_of("googlenet", compilation.plan, compilation, None, None))
    assert page.count("<svg") >= 3
    assert "inception3a" in page
    assert len(page) < 2_000_000
