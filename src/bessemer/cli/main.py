"""The program: collects the commands, turns Bessemer's errors into one message and an exit code."""

import inspect
import logging
import os
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Annotated

import typer

from bessemer import __version__
from bessemer.cli.registry import COMMANDS, Command
from bessemer.core.errors import BessemerError, InternalError
from bessemer.core.settings import settings

_SUMMARY = "Bessemer turns a trained model into a fast engine and runs it."
_GROUPS = {"debug": "Find out which pass or kernel breaks a result."}


def make_app() -> typer.Typer:
    """The typer application with every registered command."""
    app = typer.Typer(
        name="bessemer", help=_SUMMARY, no_args_is_help=True, add_completion=False,
        pretty_exceptions_enable=False, rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        epilog="'bessemer COMMAND --help' shows the options and an example.",
    )
    app.callback()(_program_options)
    groups = {
        name: typer.Typer(help=text, no_args_is_help=True, rich_markup_mode=None)
        for name, text in _GROUPS.items()
    }
    for name in COMMANDS.names():
        entry = COMMANDS.get(name)
        owner = groups[entry.group] if entry.group else app
        owner.command(entry.verb, help=_help_text(entry))(entry.function)
    for name, group in groups.items():
        app.add_typer(group, name=name)
    return app


def _help_text(entry: Command) -> str:
    """The docstring and the example, which click's backspace mark keeps on lines of its own."""
    text = inspect.cleandoc(entry.function.__doc__ or "")
    return f"{text}\n\n\b\nExample:\n  {entry.example}"


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"bessemer {__version__}\n")
        raise typer.Exit


def _program_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True,
                           help="Print the version and stop."),
    ] = False,
) -> None:
    pass


def _set_up_logging(level: int) -> None:
    wanted = logging.WARNING if level == 0 else logging.INFO if level == 1 else logging.DEBUG
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(levelname).1s %(name)s: %(message)s"
    )
    logging.getLogger("bessemer").setLevel(wanted)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns the exit code: 0 success, 1 an error, 2 wrong usage.

    At BESSEMER_DEBUG=1 and above an error is raised with its traceback instead of one message.
    """
    debug = 0
    try:
        debug = settings().debug
        _set_up_logging(debug)
        if arguments is None and debug == 0:
            sys.excepthook = _tell_of_fault
        # Not through the application's own call, which would replace the hook above.
        typer.main.get_command(make_app()).main(
            args=list(arguments) if arguments is not None else None, prog_name="bessemer",
        )
    except SystemExit as stop:
        return _code_of(stop)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (BessemerError, OSError, MemoryError) as error:
        if debug >= 1:
            raise
        sys.stderr.write(f"bessemer: {type(error).__name__}: {error}\n")
        if isinstance(error, InternalError):
            sys.stderr.write("This is a fault in Bessemer; BESSEMER_DEBUG=1 shows where.\n")
        return 1
    return 0


def _tell_of_fault(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """What an exception that no one foresaw prints instead of a traceback; the exit code is 1."""
    place = ""
    while trace is not None:
        code = trace.tb_frame.f_code
        place = f" at {os.path.basename(code.co_filename)}:{trace.tb_lineno} ({code.co_name})"
        trace = trace.tb_next
    sys.stderr.write(
        f"bessemer: {kind.__name__}: {error}{place}\n"
        "This is a fault in Bessemer; please report it with the traceback that BESSEMER_DEBUG=1 "
        "shows.\n"
    )


def _code_of(stop: SystemExit) -> int:
    if stop.code is None:
        return 0
    return stop.code if isinstance(stop.code, int) else 1
