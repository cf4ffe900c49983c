"""Textual LLVM IR from loop IR (emitter.py), object code from it (emit.py), the native driver."""
