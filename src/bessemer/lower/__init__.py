"""From graph to kernels to loop nests.

In: a graph after passes, with layouts. Out: fusion groups (fuse.py), kernels as stages of tensor
expressions over buffers (kernel.py), and the loop IR (loops.py) that schedules make of them, with
its parser, verifier and interpreter (loop_*.py). Start with kernel.py and loops.py.
"""
