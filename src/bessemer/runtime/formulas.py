"""The distinct formulas of an epoch of a symbolic plan, evaluated all at once."""

from collections.abc import Sequence

import numpy as np

from bessemer.core.formula import Evaluate, compile_formulas
from bessemer.engine.plan import Extent
from bessemer.runtime.state import Array

MAX_BYTES = 1 << 46
"""No extent and no size is larger."""


class Formulas:
    """Formulas by number; those in `counts` are extents and sizes."""

    def __init__(self) -> None:
        self.index: dict[Extent, int] = {}
        self.counts: set[int] = set()
        self._function: Evaluate | None = None
        self._counts: Array = np.zeros(0, np.intp)

    def add(self, formula: Extent, count: bool = True) -> int:
        """The number of a formula; none is added after the first evaluation."""
        number = self.index.setdefault(formula, len(self.index))
        if count:
            self.counts.add(number)
        return number

    def evaluate(self, values: Sequence[int], symbols: Sequence[str]) -> tuple[list[int], Array]:
        """The values of all formulas, as integers and as i64, for those of the symbols.

        Raises: ArithmeticError if one cannot be computed, or a count is negative or too large.
        """
        if self._function is None:
            self._function = compile_formulas(list(self.index), list(symbols))
            self._counts = np.array(sorted(self.counts), np.intp)
        try:
            found = self._function(values)
            numbers = np.array(found, np.int64)
        except (ZeroDivisionError, OverflowError) as error:
            raise ArithmeticError(f"a formula of the plan fails ({error})") from None
        counts = self._counts
        bad = counts[(numbers[counts] < 0) | (numbers[counts] > MAX_BYTES)]
        if len(bad):
            text = list(self.index)[bad[0]]
            raise ArithmeticError(f"an extent or a size, {text}, would be {found[bad[0]]}")
        return found, numbers
