"""The `bessemer` program: one file per command.

A new command is one new file here with a function under `@command("verb")`. Command files import
only light modules at the top, so that `bessemer --help` stays fast; the compiler is imported
inside the function. Start with registry.py, main.py and build.py.
"""
