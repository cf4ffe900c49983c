"""Options that several commands share, declared once."""

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout and nothing else there.")]
Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A model file (.onnx).")]
EngineOrModel = Annotated[
    Path, typer.Argument(
        metavar="ENGINE_OR_MODEL", help="An engine (.plan), or a model that is built first."
    ),
]
Shapes = Annotated[
    list[str] | None,
    typer.Option(
        "--shape", metavar="NAME=SIZES",
        help="Size of a symbol (N=1) or shape of an input (input=1x3x224x224); repeatable.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(min=1, help="Threads; default: the cores that this process may use."),
]
Disable = Annotated[
    list[str] | None,
    typer.Option(
        "--disable-pass", metavar="PASS",
        help="Leave a pass out (see 'bessemer passes'); repeatable.",
    ),
]
Fallbacks = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-fallback", metavar="RUNTIME",
        help="Leave nodes that Bessemer cannot run to this runtime (onnxruntime).",
    ),
]
FallbackNodes = Annotated[
    list[str] | None,
    typer.Option(
        "--fallback-node", metavar="PATTERN",
        help="Leave nodes of this name to it as well (* and ? allowed); repeatable.",
    ),
]
KeepInputs = Annotated[
    list[str] | None,
    typer.Option(
        "--keep-input", metavar="NAME",
        help="An initializer of the model that shall be an input of the engine; repeatable.",
    ),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input", "-i", metavar="NAME=FILE.npy",
        help="An input from a .npy file, or several from FILE.npz; repeatable.",
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of the random inputs.")]
