"""Runs the program in this process and gives its exit code, stdout and stderr."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from bessemer.cli.main import main


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def program(capsys) -> Callable[..., Done]:
    def run(*arguments: object) -> Done:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return run
