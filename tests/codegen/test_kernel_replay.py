"""A refactoring leaves every kernel as it was: hashes of the loops of sample models are kept.

Where a change of kernels is meant, `pytest tests/codegen/test_kernel_replay.py --update-snapshots`
writes the new hashes; the commit then says why they changed.
"""

import json
from pathlib import Path

import pytest

from bessemer.compiler.build import bind_symbols
from bessemer.compiler.constants import ConstantPool
from bessemer.compiler.variant import lower_variant
from bessemer.frontends.formats import import_model
from bessemer.passes.pipelines import run_pipeline
from bessemer.targets import get_target
from bessemer.zoo.catalogue import ZooOptions, digits_path, make_model

SNAPSHOT = Path(__file__).with_name("kernel_hashes.json")
TARGETS = ("x86-avx512", "x86-avx2")
MODELS = {
    "digits": digits_path,
    "googlenet": lambda: make_model("googlenet", ZooOptions(width=0.25, size=64)),
    "mobilenet_v2": lambda: make_model("mobilenet_v2", ZooOptions(width=0.25, size=64)),
    "bert_base": lambda: make_model("bert_base", ZooOptions(width=0.125, layers=1, size=16)),
}


def kernel_hashes(model):
    """`target/kernel` -> the kernel's symbol, which is the hash of its loops."""
    graph = bind_symbols(import_model(model))
    run_pipeline(graph)
    found = {}
    for name in TARGETS:
        for entry in lower_variant(graph.clone(), get_target(name), ConstantPool()).kernels:
            found[f"{name}/{entry.name}"] = entry.symbol.removeprefix("k_")
    return found


@pytest.mark.parametrize("name", MODELS)
def test_kernels_are_unchanged(name, request):
    found = kernel_hashes(MODELS[name]())
    known = json.loads(SNAPSHOT.read_text()) if SNAPSHOT.exists() else {}
    if request.config.getoption("--update-snapshots"):
        known[name] = found
        SNAPSHOT.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
        return
    wanted = known.get(name, {})
    changed = sorted(key for key in wanted.keys() | found.keys()
                     if wanted.get(key) != found.get(key))
    assert not changed, (
        f"{len(changed)} kernels of {name} changed: {', '.join(changed[:8])}; if that is meant, "
        f"run this test with --update-snapshots")


def test_kernels_do_not_depend_on_what_was_built_before():
    assert kernel_hashes(digits_path()) == kernel_hashes(digits_path())
