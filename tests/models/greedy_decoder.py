"""Text models that choose one token after the other in a Loop, as exporters write them."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH, WORDS, END = 32, 50, 3


def _tensor(name: str, array: Any) -> Any:
    return numpy_helper.from_array(np.asarray(array), name)


def _weights(seed: int, **shapes: tuple[int, ...]) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [
        _tensor(name, (rng.standard_normal(shape) * 1.5 / np.sqrt(shape[-1])).astype(np.float32))
        for name, shape in shapes.items()
    ]


def _node(op: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    return helper.make_node(
        op, inputs.split(), outputs.split(), name=f"/decoder/{outputs.split()[0]}", **attributes
    )


def _info(name: str, kind: int, *shape: Any) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


_NUMBER, _TRUTH, _REAL = TensorProto.INT64, TensorProto.BOOL, TensorProto.FLOAT


def recurrent_decoder(seed: int = 0, steps: int = 20) -> onnx.ModelProto:
    """A GRU that reads its own last token; tokens and scores come out as stacks.

    Inputs: state f32[1, 1, WIDTH]. Outputs: tokens i64[steps, 1], scores f32[steps, 1, WORDS] and
    the last state, of as many steps as it takes to the token END.
    """
    body = helper.make_graph(
        [
            _node("Gather", "embedding token", "word"),
            _node("Unsqueeze", "word zero", "given"),
            helper.make_node(
                "GRU", ["given", "w", "r", "b", "", "state"], ["", "next_state"],
                name="/decoder/gru", hidden_size=WIDTH, linear_before_reset=1,
            ),
            _node("Squeeze", "next_state zero", "hidden"),
            _node("MatMul", "hidden out", "scores"),
            _node("ArgMax", "scores", "next_token", axis=-1, keepdims=0),
            _node("Squeeze", "next_token zero", "chosen"),
            _node("Equal", "chosen end", "ended"),
            _node("Not", "ended", "going_on"),
            _node("Identity", "next_token", "token_out"),
        ],
        "body",
        [_info("i", _NUMBER), _info("going", _TRUTH), _info("token", _NUMBER, 1),
         _info("state", _REAL, 1, 1, WIDTH)],
        [_info("going_on", _TRUTH), _info("next_token", _NUMBER, 1),
         _info("next_state", _REAL, 1, 1, WIDTH), _info("token_out", _NUMBER, 1),
         _info("scores", _REAL, 1, WORDS)],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["steps", "yes", "start", "first_state"],
                          ["last_token", "last_state", "tokens", "all_scores"],
                          name="/decoder/loop", body=body)],
        "recurrent_decoder",
        [_info("first_state", _REAL, 1, 1, WIDTH)],
        [_info("tokens", _NUMBER, None, 1), _info("all_scores", _REAL, None, 1, WORDS),
         _info("last_state", _REAL, 1, 1, WIDTH)],
        _weights(seed, embedding=(WORDS, WIDTH), w=(1, 3 * WIDTH, WIDTH), r=(1, 3 * WIDTH, WIDTH),
                 b=(1, 6 * WIDTH), out=(WIDTH, WORDS))
        + [_tensor("steps", np.int64(steps)), _tensor("yes", np.array(True)),
           _tensor("start", np.array([1])), _tensor("zero", np.array([0])),
           _tensor("end", np.int64(END))],
    )
    return _model(graph)


def attending_decoder(seed: int = 0, steps: int = 12) -> onnx.ModelProto:
    """Attention over all tokens so far; the sequence of tokens grows by Concat.

    Inputs: prompt i64[length]; a part of the model's input says how many steps at most: i64[].
    Outputs: tokens i64[length + steps taken].
    """
    branch = helper.make_graph(
        [_node("Mul", "context half", "weaker")], "then",
        [], [_info("weaker", _REAL, 1, WIDTH)],
    )
    other = helper.make_graph(
        [_node("Tanh", "context", "bounded")], "else", [], [_info("bounded", _REAL, 1, WIDTH)],
    )
    body = helper.make_graph(
        [
            _node("Gather", "embedding tokens", "words"),
            _node("MatMul", "words keys", "k"),
            _node("Transpose", "k", "kt", perm=[1, 0]),
            _node("Gather", "words last", "query", axis=0),
            _node("MatMul", "query kt", "attention"),
            _node("Softmax", "attention", "shares", axis=-1),
            _node("MatMul", "shares words", "context"),
            _node("Mod", "i two", "parity"),
            _node("Cast", "parity", "odd", to=_TRUTH),
            helper.make_node("If", ["odd"], ["mixed"], name="/decoder/mix", then_branch=branch,
                             else_branch=other),
            _node("Add", "mixed query", "sum"),
            _node("MatMul", "sum out", "scores"),
            _node("ArgMax", "scores", "token", axis=-1, keepdims=0),
            _node("Concat", "tokens token", "longer", axis=0),
            _node("Squeeze", "token zero", "chosen"),
            _node("Equal", "chosen end", "ended"),
            _node("Not", "ended", "going_on"),
        ],
        "body",
        [_info("i", _NUMBER), _info("going", _TRUTH), _info("tokens", _NUMBER, None)],
        [_info("going_on", _TRUTH), _info("longer", _NUMBER, None)],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["steps", "", "prompt"], ["all_tokens"], name="/decoder/loop",
                          body=body)],
        "attending_decoder",
        [_info("prompt", _NUMBER, "length"), _info("steps", _NUMBER)],
        [_info("all_tokens", _NUMBER, None)],
        _weights(seed, embedding=(WORDS, WIDTH), keys=(WIDTH, WIDTH), out=(WIDTH, WORDS))
        + [_tensor("zero", np.array([0])), _tensor("last", np.array([-1])),
           _tensor("end", np.int64(END)), _tensor("two", np.int64(2)),
           _tensor("half", np.float32(0.5))],
    )
    return _model(graph)


def _model(graph: Any) -> onnx.ModelProto:
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(proto)
    return proto
