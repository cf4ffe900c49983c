"""Variants of a symbolic engine, for single shapes or for all, built from the graph it stores."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from bessemer.compiler.build import BuildOptions, Progress, compile_graph
from bessemer.compiler.symbols import SymbolRange
from bessemer.core.dtypes import DTYPES
from bessemer.core.errors import BessemerError, EngineFormatError
from bessemer.engine.plan import EngineData, StoredConstant
from bessemer.frontends.formats import specialize
from bessemer.ir.codec import decode_array
from bessemer.ir.graph import Graph
from bessemer.ir.parser import parse_graph, parse_layout
from bessemer.targets import get_target


def source_graph(data: EngineData) -> Graph:
    """The graph that a symbolic engine stores; its plain constants are views of the engine's.

    Raises: EngineFormatError if it stores none, or it does not fit the constants.
    """
    source = data.source
    if source is None:
        raise EngineFormatError(f"engine {data.plan.name!r} stores no graph to build from")
    try:
        arrays = {constant.key: _array(data, constant) for constant in source.constants}
        arrays |= {key: decode_array(item) for key, item in source.strings.items()}
        return parse_graph(source.text, arrays)
    except EngineFormatError:
        raise
    except (BessemerError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise EngineFormatError(
            f"the graph that engine {data.plan.name!r} stores is malformed: {error}"
        ) from error


def _array(data: EngineData, constant: StoredConstant) -> np.ndarray[Any, Any]:
    dtype = DTYPES[constant.dtype].numpy
    if not constant.layout:
        return _bytes(data, constant, constant.shape).view(dtype).reshape(constant.shape)
    layout = parse_layout(constant.layout)
    shape = layout.physical_shape(constant.shape)
    physical = _bytes(data, constant, shape).view(dtype).reshape(shape)
    return layout.unpack(physical, constant.shape)


def _bytes(data: EngineData, constant: StoredConstant, shape: tuple[int, ...]
           ) -> np.ndarray[Any, Any]:
    size = int(np.prod(shape, dtype=np.int64)) * DTYPES[constant.dtype].size_bytes
    for offset, array in data.constants:
        start = constant.offset - offset
        if start >= 0 and start + size <= array.nbytes:
            flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            return flat[start : start + size]
    raise EngineFormatError(
        f"constant {constant.key!r} of the graph that engine {data.plan.name!r} stores, "
        f"{size} bytes at {constant.offset}, does not lie in its constants"
    )


def specialise(
    data: EngineData, variant: str | None, values: Mapping[str, int],
    on_progress: Progress | None = None,
) -> EngineData:
    """An engine for these values of its symbols, built from the stored graph as the engine was.

    `variant` is the machine-code variant whose target it is built for.
    Raises: EngineFormatError for a damaged graph; what `compile_graph` raises.
    """
    graph = specialize(source_graph(data), dict(values))
    return compile_graph(graph, _options(data, variant), on_progress=on_progress).engine.data


def generalise(
    data: EngineData, variant: str | None, on_progress: Progress | None = None
) -> EngineData:
    """An engine for all values of its symbols, that takes nothing for granted.

    Raises: as `specialise`.
    """
    options = replace(_options(data, variant), exact=True)
    return compile_graph(source_graph(data), options, on_progress=on_progress).engine.data


def _options(data: EngineData, variant: str | None) -> BuildOptions:
    plan = data.plan if variant is None else data.plan_of(variant)
    disable = plan.options.get("disable")
    ranges = {each.name: SymbolRange(each.low, each.high, each.hint) for each in plan.symbols}
    return BuildOptions(
        (get_target(str(plan.options.get("target", "host"))),), plan.name,
        tuple(disable) if isinstance(disable, list) else (),
        strict=False,
        threads=plan.options.get("threads"), store=False, ranges=ranges,
    )
