"""Recurrent layers."""

from typing import Any

from bessemer.debug.random_graphs.maker import Maker, rule

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@rule("LSTM", "GRU", "RNN", weight=0.5)
def recurrent(maker: Maker) -> None:
    """All directions, initial states, sequence lengths, peepholes and clips."""
    op = maker.choose("LSTM", "GRU", "RNN")
    gates = _GATES[op]
    dtype = maker.dtype(("f32", "f32", "f32", "f64"))
    steps, batch, size, hidden = (maker.integer(1, 4), maker.integer(1, 3), maker.integer(1, 4),
                                  maker.integer(1, 5))
    direction = maker.choose("forward", "reverse", "bidirectional")
    d = 2 if direction == "bidirectional" else 1
    x = maker.fresh(dtype, [steps, batch, size])
    w = maker.fresh(dtype, [d, gates * hidden, size], low=-1, high=1, fixed=8)
    r = maker.fresh(dtype, [d, gates * hidden, hidden], low=-1, high=1, fixed=8)
    b = None
    if maker.chance(0.6):
        b = maker.fresh(dtype, [d, 2 * gates * hidden], low=-1, high=1, fixed=8)
    lengths = maker.fresh("i32", [batch], low=1, high=steps) if maker.chance(0.3) else None
    state = maker.fresh(dtype, [d, batch, hidden]) if maker.chance(0.5) else None
    given = [x, w, r, b, lengths, state]
    attributes: dict[str, Any] = {"hidden_size": hidden, "direction": direction}
    if op == "LSTM":
        given.append(maker.fresh(dtype, [d, batch, hidden]) if maker.chance(0.5) else None)
        if maker.chance(0.3):
            given.append(maker.fresh(dtype, [d, 3 * hidden], low=-1, high=1, fixed=8))
    if op == "GRU":
        attributes["linear_before_reset"] = maker.integer(0, 1)
    if maker.chance(0.2):
        attributes["clip"] = 0.7
    maker.emit(op, given, outputs=maker.integer(1, 3 if op == "LSTM" else 2), **attributes)
