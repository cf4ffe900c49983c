"""LLVM back end: loop IR to LLVM IR text, and the text to ELF objects.

emit.py compiles one text; pool.py compiles many in parallel, with a disk cache; worker.py is the
helper process; freestanding.py runs AArch64 objects under an emulator.
"""
