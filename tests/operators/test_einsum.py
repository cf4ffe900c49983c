"""Einsum: every form of an equation against numpy's."""

import numpy as np
import pytest
from running import both

from bessemer.core.dtypes import f32
from bessemer.core.errors import ShapeError
from bessemer.ir.types import TensorType
from bessemer.ops.einsum import Einsum

EXTENTS = {"i": 2, "j": 3, "k": 4, "l": 5, "A": 2, "b": 3, "a": 2}
EQUATIONS = """
ii->i  ii  iij->ij  iij->j  iii->i  iji->j  ii,i->i  ii,jj->ij  aab,b->a  bA  Ab  ij->  ij,->ij
,ij->ij  ->  ,->  ij,ij->  ij,ji->ij  i,i,i->  i,j,k->kji  ij,jk,kl,li->  bij,bjk->bik  ijk,ijk->k
...  ...->  ...->...  ...ii->...i  ...ii->...  ii...,i...->...  ...i,...i->...  ...i,...i->
...i,...->...i  ...,...->...  ij...->ji...  ...ij,jk->...ik  i...j->...ij  ...ij->...  i,...->i...
b...i,b...i->b...  ...j,...j->...j
"""


def operands(equation: str, hidden: list[tuple[int, ...]]) -> list[np.ndarray]:
    """Random operands; each ellipsis stands for the next shape of `hidden`, again and again."""
    generator = np.random.default_rng(len(equation))
    made = []
    for number, term in enumerate(equation.split("->")[0].split(",")):
        front, dots, back = term.partition("...")
        middle = hidden[number % len(hidden)] if dots else ()
        shape = (*(EXTENTS[c] for c in front), *middle, *(EXTENTS[c] for c in back))
        made.append(generator.standard_normal(shape).astype(np.float32))
    return made


@pytest.mark.parametrize("equation", EQUATIONS.split())
@pytest.mark.parametrize("hidden", [[()], [(2, 3)], [(2, 3), (3,)], [(1, 3), (2, 1, 1)]], ids=str)
def test_agrees_with_numpy(equation: str, hidden: list[tuple[int, ...]]) -> None:
    xs = operands(equation, hidden)
    try:
        expected = np.einsum(equation, *xs)
    except ValueError:
        # numpy refuses to sum over an ellipsis.
        pytest.skip("numpy has no answer")
    found = both(Einsum(equation=equation), *xs)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("equation", "shape"), [
    ("i->ii", (2,)), ("ij->k", (2, 3)), ("i,j", (2,)), ("i.j->ij", (2, 3)), ("ijk->i", (2, 3)),
    ("i1->i", (2, 3)), ("ii->i", (2, 3)),
])  # fmt: skip
def test_nonsense_is_refused(equation: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError):
        Einsum(equation=equation).infer(TensorType(f32, shape))
