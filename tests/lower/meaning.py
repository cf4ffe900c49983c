"""Runs a kernel at two levels, as tensor expressions and as loop IR, and compares them."""

import numpy as np

from bessemer import te
from bessemer.lower.kernel import Kernel, Operand
from bessemer.lower.loop_interpreter import buffer_extent, run_function
from bessemer.lower.loops import Buffer
from bessemer.schedule.rule import Scheduled

TOLERANCE = {"f64": 1e-9, "f32": 2e-4, "f16": 1e-2, "bf16": 6e-2}


def places_of(buffer: Buffer, flat):
    """Where the elements of the buffer's box lie in flat memory.

    By number, because numpy cannot stride over the small float types.
    """
    places = np.arange(flat.size)
    strides = [stride * places.itemsize for stride in buffer.strides]
    return np.lib.stride_tricks.as_strided(places[buffer.offset:], buffer.shape, strides)


def memory_of(buffer: Buffer, operand: Operand, logical) -> np.ndarray:
    """Flat memory of an operand; an output (no content) starts with sevens."""
    flat = np.full(max(1, buffer_extent(buffer)), 7, buffer.dtype.numpy)
    if logical is not None and 0 not in buffer.shape:
        array = np.asarray(logical, buffer.dtype.numpy).reshape(operand.shape)
        flat[places_of(buffer, flat)] = operand.layout.pack(array)
    return flat


def run_loops(kernel: Kernel, scheduled: Scheduled, arrays, **options):
    """Logical outputs of the loops, given logical arrays of the inputs by tensor."""
    outputs = {id(o.tensor) for o in kernel.outputs}
    flats = {}
    for buffer, operand in zip(scheduled.function.params, scheduled.operands, strict=True):
        # A rule may put a constant of its own in the place of one (the filters of Winograd's).
        given = operand.constant if operand.constant is not None else arrays.get(operand.tensor)
        logical = None if id(operand.tensor) in outputs else given
        flats[id(operand.tensor)] = buffer, memory_of(buffer, operand, logical)
    run_function(scheduled.function, [flat for _, flat in flats.values()], **options)
    results = []
    for operand in kernel.outputs:
        if 0 in operand.shape:
            results.append(np.zeros(operand.shape, operand.dtype.numpy))
            continue
        buffer, flat = flats[id(operand.tensor)]
        physical = flat[places_of(buffer, flat)]
        results.append(operand.layout.unpack(physical, operand.shape))
        if operand.layout.has_padding(operand.shape):
            packed = operand.layout.pack(results[-1])
            np.testing.assert_array_equal(packed, physical, "padding is not zero")
    return results


def evaluate(kernel: Kernel, arrays):
    """Logical outputs of the tensor expressions."""
    return te.evaluate(tuple(o.tensor for o in kernel.outputs), arrays)


def assert_same_meaning(kernel: Kernel, scheduled: Scheduled, arrays, wanted=None, **options):
    """The loops compute what the tensor expressions say."""
    wanted = evaluate(kernel, arrays) if wanted is None else wanted
    got = run_loops(kernel, scheduled, arrays, **options)
    for operand, ours, want in zip(kernel.outputs, got, wanted, strict=True):
        tolerance = TOLERANCE.get(operand.dtype.name, 0)
        message = f"{scheduled.rule} {scheduled.knobs} {operand.tensor.name}"
        np.testing.assert_allclose(
            np.asarray(ours).astype(np.float64), np.asarray(want).astype(np.float64),
            rtol=tolerance, atol=tolerance, err_msg=message)
