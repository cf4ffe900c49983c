"""The table of adapters: for each operator, the last opset an adapter is for, and what it does."""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

from bessemer.frontends.onnx.source import SourceNode, Writer

EVERY = 1 << 30
"""For adapters that a form needs in every opset."""

Adapter = Callable[[SourceNode, Writer], SourceNode | None]
"""Brings a node up to the opset after its own; None if it wrote the result itself."""


@dataclass(frozen=True)
class Step:
    """One change of an operator's meaning: nodes up to opset `until` need `adapter`."""

    until: int
    adapter: Adapter
    becomes: tuple[str, ...]
    """Names of the operators that the adapter writes, where it is not the same one."""


_STEPS: dict[tuple[str, str], list[Step]] = {}
_PACKAGES = ("bessemer.frontends.onnx.versions", "bessemer.frontends.onnx.contrib")
_loaded = False


def until(
    opset: int, *op_types: str, domain: str = "", becomes: tuple[str, ...] = ()
) -> Callable[[Adapter], Adapter]:
    """Registers an adapter for those operators in opsets up to and including `opset`."""

    def decorate(adapter: Adapter) -> Adapter:
        for op_type in op_types:
            steps = _STEPS.setdefault((domain, op_type), [])
            steps.append(Step(opset, adapter, becomes))
            steps.sort(key=lambda step: step.until)
        return adapter

    return decorate


def steps(domain: str, op_type: str) -> list[Step]:
    """The steps of an operator, oldest first."""
    global _loaded
    if not _loaded:
        _loaded = True
        for package in map(importlib.import_module, _PACKAGES):
            for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda m: m.name):
                importlib.import_module(f"{package.__name__}.{module.name}")
    return _STEPS.get((domain, op_type), [])


def adapt(node: SourceNode, writer: Writer) -> SourceNode | None:
    """The node at the newest opset, or None if an adapter wrote the result itself.

    Raises: ModelFormatError where an old form cannot be translated.
    """
    changed: SourceNode | None = node
    if node.domain == "" and node.opset < 6:
        # A hint of the first opsets on reuse of memory; it never had a meaning.
        node.attributes.pop("consumed_inputs", None)
    for name in [name for name in node.attributes if name.startswith("__")]:
        node.attributes.pop(name)
    while changed is not None:
        current = changed
        step = next(
            (s for s in steps(current.domain, current.op_type) if s.until >= current.opset), None
        )
        if step is None:
            return current
        changed = step.adapter(current, writer)
        if changed is not None:
            changed.opset = step.until + 1
    return None


def adapted_types(domain: str) -> list[str]:
    """The operators of a domain that have adapters."""
    steps(domain, "")
    return sorted(op_type for known, op_type in _STEPS if known == domain)


def replacements(domain: str, op_type: str, opset: int) -> tuple[str, ...]:
    """Names of the operators of the newest opset that stand for an operator, with their domain."""
    names: tuple[str, ...] = (f"{domain}.{op_type}" if domain else op_type,)
    for step in steps(domain, op_type):
        if step.until >= opset and step.becomes:
            names = step.becomes
    return names
