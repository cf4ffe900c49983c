"""Loads engines and runs them: machine code, memory, threads, bindings, profiles.

Needs neither the compiler nor a model format. Start with engine.py and context.py (the way of one
inference), then program.py; linker.py loads machine code, pool.py holds the threads.
"""
