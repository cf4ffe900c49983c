"""What the verifier, the interpreter and the parser of loop IR refuse, on written-out loops."""

import numpy as np
import pytest

from bessemer.core.errors import ModelFormatError, VerifyError
from bessemer.lower.loop_interpreter import run_function
from bessemer.lower.loop_parser import parse_function
from bessemer.lower.loop_verifier import verify_function


def function(body, params="x: in f32[8]; y: out f32[8]"):
    rows = "".join(f"    {param.strip()},\n" for param in params.split(";") if param.strip())
    lines = "".join(f"  {line}\n" for line in body.strip("\n").split("\n"))
    return parse_function(f"kernel k(\n{rows}) {{\n{lines}}}\n")


COPY = """
for i in 8 parallel:
  y[i] = x[i]"""

FAULTS = {
    "unbound variable": ("y[0] = x[k]", "k is not bound"),
    "rank": ("y[0, 0] = x[0]", "y has rank 1, got 2 indices"),
    "dtype": ("y[0] = i32(3)", "y holds f32, the value is i32"),
    "input written": ("x[0] = y[0]", "x is an input and is written"),
    "shadowed variable": ("for i in 2:\n  for i in 2:\n    y[i] = x[i]", "i is bound already"),
    "vector in vector": (
        "for i in 2 vector:\n  for j in 2 vector:\n    y[j] = x[i]",
        "vector loop j stands inside another one"),
    "parallel inside": (
        "for i in 2 unroll:\n  for j in 2 parallel:\n    y[j] = x[i]",
        "parallel loop j stands inside the unroll loop i"),
    "register address": (
        "alloc acc: register f32[4,1]\nfor i in 4:\n  acc[i, 0] = x[i]",
        "register acc is indexed by i, which is serial"),
    "out of bounds": ("for i in 8:\n  y[i] = x[(i + 1)]", "runs over 1..8, outside 0..7"),
    "before the start": ("for i in 8:\n  y[i] = x[(i - 1)]", "runs over -1..6, outside 0..7"),
    "index dtype": ("y[f32(0.0)] = x[0]", "an index of y is f32"),
    "condition": ("if x[0]:\n  y[0] = x[1]", "the condition is f32"),
    "buffer of a closed block": (
        "for i in 2:\n  alloc s: stack f32[2]\n  s[i] = x[i]\nalloc s: stack f32[2]\ny[0] = s[2]",
        "s is read at index 0 = 2"),
    "let of a float": ("i = f32(1.0)\ny[0] = x[0]", "i is an index, its value is f32"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_verifier_names_the_fault(name):
    body, message = FAULTS[name]
    with pytest.raises(VerifyError, match="kernel k is not sound") as raised:
        verify_function(function(body))
    assert message in str(raised.value)


def test_verifier_lists_all_faults_with_their_statements():
    with pytest.raises(VerifyError) as raised:
        verify_function(function("y[0, 0] = x[0]\nx[1] = y[9]"))
    message = str(raised.value)
    assert message.count("\n") == 3
    assert "in `y[0, 0] = x[0]`" in message
    assert "in `x[1] = y[9]`" in message


SOUND = {
    "copy": COPY,
    "guarded tail": "for i in 3:\n  for j in 3 vector:\n    if (((i * 3) + j) < 8):\n"
                    "      y[((i * 3) + j)] = x[((i * 3) + j)]",
    "select": "for i in 8:\n  y[i] = select((i >= 1), x[(i - 1)], f32(0.0))",
    "registers": "alloc acc: register f32[2,4]\nfor r in 2 unroll:\n  for l in 4 vector:\n"
                 "    acc[r, l] = f32(0.0)\nfor r in 2 unroll:\n  y[r] = lanes.sum(acc[r])",
    "divided": "for i in 16:\n  y[(i // 2)] = x[(i % 8)]",
    "parallel in serial": "for i in 1:\n  for j in 8 parallel:\n    y[j] = x[j]",
    "empty loop": "for i in 0:\n  y[(i + 9)] = x[0]",
}


@pytest.mark.parametrize("name", SOUND)
def test_verifier_accepts(name):
    verify_function(function(SOUND[name]))


def run(body, *arrays, params="x: in f32[8]; y: out f32[8]", **options):
    run_function(function(body, params), list(arrays), **options)


def data():
    return np.arange(8, dtype=np.float32), np.zeros(8, np.float32)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("threads", [1, 3])
def test_interpreter_runs_every_iteration_once(threads, backwards):
    x, y = data()
    run(COPY.replace("y[i] = x[i]", "y[i] = (y[i] + x[i])"), x, y, threads=threads,
        backwards=backwards)
    np.testing.assert_array_equal(x, y)


def test_interpreter_shows_iterations_that_depend_on_each_other():
    body = "for i in 8 parallel:\n  if (i >= 1):\n    y[i] = (y[(i - 1)] + x[i])"
    results = []
    for backwards in (False, True):
        x, y = data()
        run(body, x, y, backwards=backwards)
        results.append(y)
    assert not np.array_equal(*results)


@pytest.mark.parametrize("name", ["guarded tail", "select"])
def test_masked_lanes_may_point_anywhere(name):
    x, y = data()
    run(SOUND[name], x, y)
    want = x if name == "guarded tail" else np.r_[0, x[:-1]]
    np.testing.assert_array_equal(y, want)


@pytest.mark.parametrize(("body", "message"), [
    ("for i in 9:\n  y[(i * 1)] = x[0]", r"y\[8\] is written at \[8\] in `y\[\(i \* 1\)\] = x"),
    ("for i in 3 vector:\n  y[i] = x[(i + 6)]", r"x\[8\] is read at \[\[6 7 8\]\]"),
    ("if (x[1] > f32(0.0)):\n  y[0] = x[-1]", r"x\[8\] is read at \[-1\]"),
    ("for i in 4 vector:\n  y[(i // 2)] = x[i]", "lanes write one element of y"),
])
def test_interpreter_checks_accesses(body, message):
    with pytest.raises(VerifyError, match=message):
        run(body, *data())


@pytest.mark.parametrize("array", [np.zeros(7, np.float32), np.zeros(8), np.zeros((2, 4), "f4")])
def test_interpreter_checks_its_arrays(array):
    with pytest.raises(VerifyError, match=r"needs a flat array of at least 8 elements"):
        run(COPY, array, np.zeros(8, np.float32))


def test_fresh_memory_shows():
    x, y = data()
    run("alloc s: stack f32[2]\ns[0] = x[1]\ny[0] = s[0]\ny[1] = s[1]", x, y)
    assert y[0] == 1
    assert np.isnan(y[1])


def test_strides_and_offsets():
    x, y = data()
    params = "x: in f32[2,2] strides [1,4] offset 1; y: out f32[4]"
    run("for i in 2:\n  for j in 2 vector:\n    y[((i * 2) + j)] = x[i, j]", x, y, params=params)
    assert y[:4].tolist() == [1, 5, 2, 6]
    assert params.split("; ")[0] in str(function("y[0] = x[0, 0]", params))


def test_notes_parse_back():
    made = function("note aliased = (0, 1)\ny[0] = x[0]")
    assert made.notes == {"aliased": (0, 1)}
    assert str(parse_function(str(made))) == str(made)


@pytest.mark.parametrize(("body", "message"), [
    ("y[0] = ", "the text ends too early"),
    ("y[0] = x[0] x[1]", "'x' is left over"),
    ("y[0] = (x[0] ? x[1])", "unexpected"),
    ("y[0] = (x[0] + 1)", "operands of '\\+' are f32 and i64"),
    ("y[0] = z[0]", "no tensor 'z'"),
    ("y[0] = cosine(x[0])", "unknown function cosine"),
    ("for i in 3 sideways:\n  y[i] = x[i]", "unknown kind of loop sideways"),
    ("while true:", "unknown statement"),
    ("alloc s: heap f32[3]", "expected `NAME: SCOPE"),
])
def test_parser_points_at_the_line(body, message):
    with pytest.raises(ModelFormatError, match=f"loop text, line [45].*{message}"):
        function(body)
