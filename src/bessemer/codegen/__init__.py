"""Loop IR to machine code, through LLVM; cache of compiled objects. Start with llvm/emitter.py."""
