"""`bessemer version`: Bessemer's version and those of what it stands on."""

from typing import Annotated

import typer

from bessemer.cli.console import print_json, print_text
from bessemer.cli.registry import command


@command("version", example="bessemer version --json")
def version(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the versions of Bessemer, Python, numpy, LLVM and onnx."""
    from bessemer.bench.machine import package_versions

    versions = package_versions()
    if as_json:
        print_json(versions)
    else:
        print_text("\n".join(f"{name} {number}" for name, number in versions.items()))
