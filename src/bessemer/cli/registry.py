"""The commands: a function under `@command("verb")` in a file of this folder is a command."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from bessemer.core.errors import SettingsError
from bessemer.core.registry import Registry


@dataclass(frozen=True)
class Command:
    """One command: its verb, the group it is under ("" = top level), an example, its function."""

    verb: str
    group: str
    example: str
    function: Callable[..., Any]


COMMANDS: Registry[Command] = Registry("command", "bessemer.cli", SettingsError)

F = TypeVar("F", bound=Callable[..., Any])


def command(verb: str, *, example: str, group: str = "") -> Callable[[F], F]:
    """Registers a function as `bessemer verb`, or `bessemer group verb`.

    Its parameters are the options (typer annotations); its docstring and the example are the
    help text.
    """

    def decorate(function: F) -> F:
        COMMANDS.add(f"{group} {verb}".strip(), Command(verb, group, example, function))
        return function

    return decorate
