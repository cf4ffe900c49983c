"""Compiles one kernel for AArch64 and runs it in QEMU: the counterpart of kernel_runner."""

import numpy as np

from bessemer.codegen.llvm.emit import emit_object
from bessemer.codegen.llvm.emitter import module_text
from bessemer.codegen.llvm.freestanding import run_on_qemu
from bessemer.lower.kernel import inline_stages
from bessemer.schedule.rule import make_loops
from bessemer.targets import get_target


def run_kernel_on_qemu(kernel, arrays, rule="", knobs=None, threads=1, target=None):
    """Outputs of a kernel (logical arrays), given logical arrays of its inputs by tensor."""
    target = target or get_target("aarch64-neon")
    kernel = inline_stages(kernel)
    scheduled = make_loops(kernel, target, "kernel", rule, knobs)
    code = emit_object(module_text([scheduled.function], target), target)
    outputs = {id(operand.tensor) for operand in kernel.outputs}
    buffers, written = [], []
    for position, operand in enumerate(scheduled.operands):
        if id(operand.tensor) in outputs:
            written.append(position)
            shape = operand.layout.physical_shape(operand.shape)
            buffers.append(np.full(shape, 7, operand.dtype.numpy))
        else:
            logical = np.asarray(arrays[operand.tensor], operand.dtype.numpy)
            buffers.append(operand.layout.pack(logical.reshape(operand.shape)))
    found = dict(zip(written, run_on_qemu(code, "kernel", buffers, written, threads=threads)))
    places = [operand.tensor for operand in scheduled.operands]
    return [
        operand.layout.unpack(found[places.index(operand.tensor)], operand.shape)
        for operand in kernel.outputs
    ]
