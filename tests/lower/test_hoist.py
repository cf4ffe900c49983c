"""Invariant parts of stored values are computed before the loops; nothing else moves."""

import pytest

from bessemer.lower.hoist import hoist
from bessemer.lower.loop_parser import parse_function
from bessemer.lower.loop_verifier import verify_function

HEAD = """kernel k(
    x: in f32[8],
    y: out f32[8],
) {
  alloc s: stack f32[8]
  alloc t: stack f32[]
"""


def hoisted(body):
    """The lines of a kernel over x, y and scratch s, t."""
    function = parse_function(f"{HEAD}{body}}}")
    function.body = hoist(function.body)
    verify_function(function)
    return str(function).removeprefix(HEAD).removesuffix("}")


def test_arithmetic_on_scratch_is_computed_once():
    assert hoisted("""\
  t[] = x[0]
  for i in 8:
    y[i] = ((x[i] - (t[] * t[])) / sqrt(t[]))
""") == """\
  t[] = x[0]
  alloc once1: stack f32[]
  once1[] = (t[] * t[])
  alloc once2: stack f32[]
  once2[] = sqrt(t[])
  for i in 8:
    y[i] = ((x[i] - once1[]) / once2[])
"""


def test_each_loop_gives_what_it_does_not_change():
    """Here the sum over j stays inside of i, the square moves out of j."""
    assert hoisted("""\
  t[] = x[0]
  for i in 8:
    s[i] = sqrt(t[])
    for j in 8:
      y[j] = (x[j] + (s[i] * s[i]))
""") == """\
  t[] = x[0]
  alloc once1: stack f32[]
  once1[] = sqrt(t[])
  for i in 8:
    s[i] = once1[]
    alloc once2: stack f32[]
    once2[] = (s[i] * s[i])
    for j in 8:
      y[j] = (x[j] + once2[])
"""


@pytest.mark.parametrize("body", [
    # memory that the loop writes
    "  t[] = x[0]\n  for i in 8:\n    t[] = (t[] + t[])\n",
    # the caller's memory, which a condition may guard
    "  for i in 8:\n    if (i < 4):\n      y[i] = (x[i] + (x[0] * x[0]))\n",
    # other elements in each turn
    "  for i in 8:\n    s[i] = x[i]\n  for i in 8:\n    y[i] = (s[i] * s[i])\n",
    # nothing to compute
    "  t[] = x[0]\n  for i in 8:\n    y[i] = (x[i] + t[])\n",
    # loops that are no loops, and those that threads share
    "  t[] = x[0]\n  for i in 8 unroll:\n    y[i] = sqrt(t[])\n",
    "  for i in 8 parallel:\n    t[] = x[i]\n    y[i] = sqrt(t[])\n",
])
def test_others_stay(body):
    assert hoisted(body) == body
