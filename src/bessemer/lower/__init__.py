"""From graph to kernels to loop nests.

In: a graph after passes, with layouts. Out: fusion groups (fuse.py), kernels as stages of tensor
expressions over buffers (kernel.py), and the loop IR (loops.py) with its printer, verifier and
interpreter. Start with kernel.py and loops.py.
"""
