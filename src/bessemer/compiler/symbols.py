"""The symbols of a graph in a plan: where a run finds them, since when, and formulas over them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bessemer.compiler.api import OptimizationProfile
from bessemer.core.errors import SettingsError
from bessemer.core.shapes import Dim, Sym, usual
from bessemer.engine.plan import Extent, SymbolRecord
from bessemer.ir.graph import Graph, Value
from bessemer.ir.types import TensorType
from bessemer.lower.groups import bound_symbols, symbols_of


@dataclass(frozen=True)
class SymbolRange:
    """What the user says of a symbol: its limits, and the usual value to choose schedules for."""

    low: int = 0
    high: int | None = None
    hint: int | None = None


Ranges = Mapping[str, SymbolRange]
Source = Callable[[int, int], tuple[Extent, ...]]
"""The source of a symbol by the number of a value and an axis of it."""


@dataclass(eq=False)
class Symbols:
    """The symbols that a run of one graph knows, and the epoch in which it learns them."""

    ranges: Ranges = field(default_factory=dict)
    records: dict[str, SymbolRecord] = field(default_factory=dict)
    epoch_of: dict[str, int] = field(default_factory=dict)
    epochs: list[int] = field(default_factory=list)

    @property
    def hints(self) -> dict[str, int]:
        """The usual values that are known."""
        return {name: each.hint for name, each in self.ranges.items() if each.hint is not None}

    def from_inputs(self, graph: Graph) -> None:
        """Symbols that stand alone in the shape of an input."""
        self._add(graph.inputs, lambda number, axis: ("input", number, axis), 0)

    def from_step(self, step: int, outputs: Sequence[Value]) -> None:
        """Symbols that the results of a host step bring; an epoch begins after it."""
        if bound_symbols(outputs) - set(self.records):
            self.epochs.append(step + 1)
            self._add(outputs, lambda k, axis: ("step", step, k, axis), len(self.epochs))

    def _add(self, values: Sequence[Value], source: Source, epoch: int) -> None:
        for k, value in enumerate(values):
            if not isinstance(value.type, TensorType) or value.type.shape is None:
                continue
            alone = bound_symbols([value])
            for axis, dim in enumerate(value.type.shape):
                name = str(dim)
                if name in alone and name not in self.records:
                    known = self.ranges.get(name, SymbolRange())
                    self.records[name] = SymbolRecord(
                        name, known.low, known.high, usual(dim, self.hints), source(k, axis))
                    self.epoch_of[name] = epoch

    def knows(self, value: Value) -> bool:
        """True if every symbol in the value's shape gets a value."""
        return symbols_of(value) <= set(self.records)

    def epoch(self, dim: Dim) -> int:
        """The epoch since which a dimension is known."""
        names = dim.symbols() if isinstance(dim, Sym) else set()
        return max((self.epoch_of[name] for name in names), default=0)

    def usual(self, dim: Dim) -> int:
        """A dimension for the usual shapes."""
        return usual(dim, self.hints)


def formula(dim: Dim) -> Extent:
    """A dimension as plans hold it."""
    return str(dim) if isinstance(dim, Sym) else int(dim)



def symbol_ranges(graph: Graph, profiles: Iterable[OptimizationProfile] = ()) -> Ranges:
    """What is known of the symbols of a graph's inputs: by optimisation profiles, else guessed.

    Guessed is only the usual value: 1 for the first axis, 224 for the sides of a picture, 128 for
    others. Several profiles together allow all that lies between their limits; the first one's
    usual shape counts.
    Raises: SettingsError if a profile names no input, or shapes that the input cannot have.
    """
    ranges: dict[str, SymbolRange] = {}
    inputs = {value.name: value for value in graph.inputs}
    for profile in profiles:
        for name, limits in profile.shapes.items():
            value = inputs.get(name)
            if value is None or not isinstance(value.type, TensorType) \
                    or value.type.shape is None or len(value.type.shape) != len(limits[0]):
                known = ", ".join(f"{v.name}: {v.type}" for v in graph.inputs)
                raise SettingsError(f"the profile of {name!r} with {len(limits[0])} dimensions "
                                    f"fits no input; the model has {known}")
            for dim, low, hint, high in zip(value.type.shape, *limits, strict=True):
                _add_range(ranges, name, dim, SymbolRange(low, high, hint))
    for value in graph.inputs:
        for axis, dim in enumerate(value.type.shape or () if isinstance(value.type, TensorType)
                                   else ()):
            if isinstance(dim, Sym) and dim.alone:
                picture = len(value.tensor.dims) in (4, 5) and axis >= 2
                guess = 224 if picture else 1 if axis == 0 else 128
                ranges.setdefault(dim.alone, SymbolRange(hint=guess))
    return ranges


def usual_values(ranges: Ranges) -> list[dict[str, int]]:
    """The usual values of symbols; where a profile gives limits, also the least and the largest."""
    usual = {name: each.hint for name, each in ranges.items() if each.hint is not None}
    high = {name: each.high for name, each in ranges.items() if each.high is not None}
    low = {name: ranges[name].low for name in high}
    return [usual, usual | low, usual | high] if high else [usual]


def _add_range(ranges: dict[str, SymbolRange], name: str, dim: Dim, new: SymbolRange) -> None:
    if not isinstance(dim, Sym):
        if not new.low <= dim <= (new.high or 0):
            raise SettingsError(f"the profile of {name!r} asks for {new.low}..{new.high} where "
                                f"the model fixes {dim}")
        return
    old = ranges.get(str(dim))
    if old is not None:
        new = SymbolRange(min(old.low, new.low), max(old.high or 0, new.high or 0), old.hint)
    ranges[str(dim)] = new
