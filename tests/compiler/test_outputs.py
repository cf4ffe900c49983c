"""Outputs that steps write straight into the caller's memory, under whatever name they have."""

import numpy as np
import pytest

from bessemer.compiler.build import BuildOptions, compile_graph
from bessemer.ir.interpreter import run_graph
from bessemer.ir.parser import parse_graph
from bessemer.targets import get_target

ALL, SOME = "every output is written by steps", "some outputs are copied"

GRAPHS = {
    "concat": (ALL, """graph g(%x: f32[4,8]) -> (%y) {
      %a = Relu(%x)
      %b = Tanh(%a)
      %c = Neg(%b)
      %y = Concat(%b, %c, axis=0)
    }"""),
    "concat across rows": (ALL, """graph g(%x: f32[4,8]) -> (%y) {
      %a = Sigmoid(%x)
      %b = Softmax(%x)
      %y = Concat(%a, %b, axis=1)
    }"""),
    "reshape": (ALL, """graph g(%x: f32[4,8]) -> (%y) {
      @s : i64[1] = [-1]
      %a = Softmax(%x)
      %y = Reshape(%a, @s)
    }"""),
    "reshape of a concat": (ALL, """graph g(%x: f32[4,8]) -> (%y) {
      @s : i64[2] = [2, -1]
      %a = Sigmoid(%x)
      %b = Softmax(%x)
      %c = Concat(%a, %b, axis=0)
      %y = Reshape(%c, @s)
    }"""),
    "two names": (ALL, """graph g(%x: f32[4,8]) -> (%y, %z, %a) {
      @s : i64[1] = [-1]
      %a = Softmax(%x)
      %y = Reshape(%a, @s)
      %z = Reshape(%y, @s)
    }"""),
    "two names of nothing else": (ALL, """graph g(%x: f32[4,8]) -> (%y, %z) {
      @s : i64[1] = [-1]
      @t : i64[2] = [8, 4]
      %a = Softmax(%x)
      %y = Reshape(%a, @s)
      %z = Reshape(%a, @t)
    }"""),
    "the input": (ALL, """graph g(%x: f32[4,8]) -> (%y, %z) {
      @s : i64[1] = [-1]
      @t : i64[2] = [8, 4]
      %y = Reshape(%x, @s)
      %z = Reshape(%y, @t)
    }"""),
    "read again": (ALL, """graph g(%x: f32[4,8]) -> (%y, %z) {
      %a = Relu(%x)
      %b = Softmax(%x)
      %y = Concat(%a, %b, axis=0)
      %z = MatMul(%y, %x2)
    }""".replace("%x: f32[4,8]", "%x: f32[4,8], %x2: f32[8,3]")),
    "a piece is an output": (ALL, """graph g(%x: f32[4,8]) -> (%y, %b) {
      %a = Relu(%x)
      %b = Softmax(%x)
      %y = Concat(%a, %b, axis=0)
    }"""),
    "by the host": (SOME, """graph g(%x: f32[4,8]) -> (%y) {
      %a, %i, %j, %n = Unique(%x)
      %y = Reshape(%a, %s)
    }""".replace("%x: f32[4,8]", "%x: f32[4,8], %s: i64[1]")),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_outputs_are_right_and_not_copied(name: str) -> None:
    expected, text = GRAPHS[name]
    graph = parse_graph(text)
    rng = np.random.default_rng(0)
    feed = {value.name: rng.standard_normal(value.tensor.static_shape).astype(np.float32)
            if value.tensor.dtype.is_float else np.array([-1]) for value in graph.inputs}
    want = run_graph(graph, list(feed.values()))
    made = compile_graph(graph, BuildOptions((get_target("host"),), strict=False))
    if expected == ALL:
        assert all(binding.source is None for binding in made.plan.outputs)
    with made.engine.create_context() as context:
        for _ in range(2):
            got = context.run(feed)
            for found, right in zip(got.values(), want, strict=True):
                np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-6)
