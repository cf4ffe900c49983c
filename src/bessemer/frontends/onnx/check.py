"""`check_model`: what would happen to each node of a model, without building it."""

import logging
from collections import Counter
from dataclasses import dataclass
from typing import Any

from bessemer.core.errors import BessemerError
from bessemer.frontends.formats import NO_FALLBACK, Fallback
from bessemer.frontends.onnx.proto import load_proto, opsets_of
from bessemer.frontends.onnx.reader import read_source
from bessemer.frontends.onnx.support import (
    EXPANDED,
    OFFLOADED,
    OPAQUE,
    UNSUPPORTED,
    NodeSupport,
    node_support,
    with_fallback,
)
from bessemer.frontends.onnx.types import Symbols, value_type


@dataclass(frozen=True)
class CheckReport:
    """The findings on one model; `ok` is True if it can be imported."""

    source: str
    ir_version: int
    opsets: dict[str, int]
    producer: str
    inputs: tuple[tuple[str, str], ...]
    """Names and types as texts."""
    outputs: tuple[tuple[str, str], ...]
    nodes: tuple[NodeSupport, ...]
    warnings: tuple[str, ...]
    problems: tuple[str, ...]
    """Errors found when importing, other than unsupported operators."""

    @property
    def unsupported(self) -> tuple[NodeSupport, ...]:
        """The nodes that cannot be imported."""
        return tuple(node for node in self.nodes if node.kind == UNSUPPORTED)

    @property
    def opaque(self) -> tuple[NodeSupport, ...]:
        """The nodes that run by their reference on the host."""
        return tuple(node for node in self.nodes if node.kind == OPAQUE)

    @property
    def offloaded(self) -> tuple[NodeSupport, ...]:
        """The nodes that are left to another runtime."""
        return tuple(node for node in self.nodes if node.kind == OFFLOADED)

    @property
    def expanded(self) -> tuple[NodeSupport, ...]:
        """The nodes that are replaced by a function's body."""
        return tuple(node for node in self.nodes if node.kind == EXPANDED)

    @property
    def ok(self) -> bool:
        """True if the model can be imported."""
        return not self.unsupported and not self.problems

    def histogram(self) -> list[tuple[str, str, int]]:
        """(operator, kind, number of nodes), most frequent first."""
        counts = Counter(
            (f"{node.domain}.{node.op_type}" if node.domain else node.op_type, node.kind)
            for node in self.nodes
        )
        return [(name, kind, n) for (name, kind), n in
                sorted(counts.items(), key=lambda item: (-item[1], item[0]))]

    # The report as JSON: values of every kind that JSON has.
    def as_dict(self) -> dict[str, Any]:
        """The report as plain data, for JSON."""
        return {
            "source": self.source, "ok": self.ok, "ir_version": self.ir_version,
            "opsets": {domain or "ai.onnx": v for domain, v in self.opsets.items()},
            "producer": self.producer,
            "inputs": [{"name": n, "type": t} for n, t in self.inputs],
            "outputs": [{"name": n, "type": t} for n, t in self.outputs],
            "operators": [{"operator": o, "kind": k, "nodes": n} for o, k, n in self.histogram()],
            "unsupported": [
                {"node": n.path, "operator": n.op_type, "domain": n.domain or "ai.onnx",
                 "opset": n.opset, "reason": n.reason} for n in self.unsupported
            ],
            "opaque": [{"node": n.path, "operator": n.op_type} for n in self.opaque],
            "offloaded": [{"node": n.path, "operator": n.op_type} for n in self.offloaded],
            "warnings": list(self.warnings), "problems": list(self.problems),
        }


class _Collector(logging.Handler):
    """Keeps the warnings that an import logs."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps the message."""
        self.messages.append(record.getMessage())


# A path, bytes or a ModelProto; onnx has no types that mypy could check.
def check_model(model: Any, fallback: Fallback = NO_FALLBACK) -> CheckReport:
    """What Bessemer would do with each node of a model; nothing is built.

    `fallback` says what may be left to another runtime.

    Raises: ModelFormatError if the file cannot be read as a model at all.
    """
    source = load_proto(model)
    proto = source.proto
    opsets = opsets_of(proto.opset_import, source.label, old=proto.ir_version < 3)
    nodes = tuple(with_fallback(node_support(source), fallback))
    collector = _Collector()
    log = logging.getLogger("bessemer.frontends")
    problems: list[str] = []
    outputs = _types(proto.graph.output, source.label)
    if not any(node.kind == UNSUPPORTED for node in nodes):
        log.addHandler(collector)
        try:
            graph = read_source(source, {}, fallback)
            outputs = tuple((value.name, str(value.type)) for value in graph.outputs)
        except BessemerError as error:
            problems.append(str(error))
        finally:
            log.removeHandler(collector)
    initial = {t.name for t in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in initial]
    return CheckReport(
        source.label, proto.ir_version, opsets,
        " ".join(part for part in (proto.producer_name, proto.producer_version) if part),
        _types(inputs, source.label), outputs, nodes, tuple(collector.messages), tuple(problems),
    )


def _types(values: Any, label: str) -> tuple[tuple[str, str], ...]:
    symbols = Symbols()
    return tuple((v.name, str(value_type(v.type, v.name, symbols, label) or "?")) for v in values)
