"""Bessemer: turns a trained model into a fast engine.

The package face is lazy: importing it, loading an engine and running it need neither the compiler
nor a model format.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from bessemer.compiler.api import Builder, BuilderConfig, Network, OptimizationProfile, plugin
    from bessemer.compiler.build import build
    from bessemer.core import errors
    from bessemer.debug.compare import compare_model as compare
    from bessemer.runtime.context import ExecutionContext
    from bessemer.runtime.engine import Engine
    from bessemer.runtime.load import load
    from bessemer.runtime.profile import Profile

_FACE = {
    "build": ("bessemer.compiler.build", "build"),
    "Builder": ("bessemer.compiler.api", "Builder"),
    "BuilderConfig": ("bessemer.compiler.api", "BuilderConfig"),
    "Network": ("bessemer.compiler.api", "Network"),
    "OptimizationProfile": ("bessemer.compiler.api", "OptimizationProfile"),
    "compare": ("bessemer.debug.compare", "compare_model"),
    "Engine": ("bessemer.runtime.engine", "Engine"),
    "ExecutionContext": ("bessemer.runtime.context", "ExecutionContext"),
    "Profile": ("bessemer.runtime.profile", "Profile"),
    "load": ("bessemer.runtime.load", "load"),
    "plugin": ("bessemer.compiler.api", "plugin"),
}

__all__ = [
    "Builder", "BuilderConfig", "Engine", "ExecutionContext", "Network", "OptimizationProfile",
    "Profile", "__version__", "build", "compare", "errors", "load", "plugin",
]


def __getattr__(name: str) -> Any:
    if name == "errors":
        return importlib.import_module("bessemer.core.errors")
    if name not in _FACE:
        raise AttributeError(f"module 'bessemer' has no attribute {name!r}")
    module, attribute = _FACE[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *_FACE})
