"""Compiles one kernel for this machine and runs it on arrays: used by the tests of schedules."""

import ctypes

import numpy as np

from bessemer.codegen.llvm.emit import emit_object
from bessemer.codegen.llvm.emitter import module_text
from bessemer.lower.kernel import Kernel, inline_stages
from bessemer.runtime.linker import LinkedCode
from bessemer.schedule.rule import make_loops
from bessemer.targets import get_target


def run_kernel(kernel: Kernel, arrays, target=None, rule="", knobs=None, threads=1, verbose=False):
    """Outputs of a kernel (logical arrays), given logical arrays of its inputs by tensor."""
    target = target or get_target("host")
    kernel = inline_stages(kernel)
    scheduled = make_loops(kernel, target, "kernel", rule, knobs)
    if verbose:
        print(scheduled.function)
    text = module_text([scheduled.function], target)
    if verbose:
        print(text)
    code = emit_object(text, target)
    outputs = {id(o.tensor) for o in kernel.outputs}
    buffers = []
    for operand in scheduled.operands:
        shape = operand.shape
        if id(operand.tensor) in outputs:
            physical = np.full(operand.layout.physical_shape(shape), 7, operand.dtype.numpy)
        else:
            # A rule may have put constants of its own in the place of others.
            content = arrays.get(operand.tensor, operand.constant)
            physical = np.ascontiguousarray(operand.layout.pack(
                np.asarray(content, operand.dtype.numpy).reshape(shape)))
        buffers.append(physical)
    pointers = (ctypes.c_void_p * max(1, len(buffers)))(*(b.ctypes.data for b in buffers))
    linked = LinkedCode([code], "kernel")
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(
        linked.address("kernel"))
    for thread in range(threads):
        function(ctypes.addressof(pointers), thread, threads)
    results = []
    for operand in kernel.outputs:
        physical = buffers[[o.tensor for o in scheduled.operands].index(operand.tensor)]
        logical = operand.layout.unpack(physical, operand.shape)
        if operand.layout.has_padding(operand.shape):
            assert np.array_equal(operand.layout.pack(logical), physical), "padding is not zero"
        results.append(logical)
    return results
