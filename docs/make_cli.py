"""Writes docs/cli.md: the help text of every command.

    python docs/make_cli.py
"""

from pathlib import Path
from typing import Any

import typer.main

from bessemer.cli.main import make_app
from bessemer.cli.registry import COMMANDS

PAGE = Path(__file__).parent / "cli.md"
_HEAD = """# Command line

`bessemer` and `python -m bessemer` are the same program. Results go to stdout, progress and
messages to stderr. With `--json` stdout is one JSON document. The exit code is 0 only on success:
1 means an error (its class and message are on stderr, see [errors.md](errors.md)), 2 wrong usage.
Settings come from environment variables that start with `BESSEMER_`; the command `settings` lists
them with their values and origin.

This page is written by `python docs/make_cli.py`.
"""


def help_of(program: Any, words: list[str]) -> str:
    """The help text of one command, 96 columns wide, without the blanks at line ends."""
    found: Any = program
    context = found.context_class(found, info_name="bessemer", terminal_width=96)
    for word in words:
        found = found.commands[word]
        context = found.context_class(found, info_name=word, parent=context, terminal_width=96)
    return "\n".join(line.rstrip() for line in found.get_help(context).splitlines())


def make_page() -> str:
    """The text of the page."""
    program = typer.main.get_command(make_app())
    parts = [_HEAD]
    for name in COMMANDS.names():
        parts.append(f"\n## bessemer {name}\n\n```\n{help_of(program, name.split())}\n```\n")
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(make_page())
