"""`bessemer settings`: every environment variable, its value and what it does."""

from dataclasses import fields
from typing import Annotated

import typer

from bessemer.cli.console import print_json, print_table
from bessemer.cli.registry import command
from bessemer.core.settings import PREFIX, Settings, read_settings
from bessemer.core.settings import settings as settings_now


@command("settings", example="BESSEMER_THREADS=2 bessemer settings")
def settings(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the settings that come from the environment, and what each one does."""
    current, usual = settings_now(), read_settings({})
    rows = []
    for field in fields(Settings):
        variable = PREFIX + field.name.upper()
        value = getattr(current, field.name)
        origin = "default" if value == getattr(usual, field.name) else "environment"
        value = getattr(current, field.metadata.get("in_effect", field.name))
        rows.append((variable, "-" if value is None else value, origin, field.metadata["help"]))
    if as_json:
        names = ("variable", "value", "origin", "help")
        print_json([dict(zip(names, row, strict=True)) for row in rows])
    else:
        print_table("", ("variable", "value", "from", "what it does"), rows)
