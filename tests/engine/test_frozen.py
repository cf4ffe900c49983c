"""The quick frozen dataclass behaves as the standard one."""

import copy
import dataclasses
import pickle

import pytest

from bessemer.core.frozen import dataclass
from bessemer.engine.plan import BufferRef, Plan


@dataclass(frozen=True)
class Point:
    """A sample."""

    x: int
    y: int = 2
    names: dict[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Standard:
    """The same, by the standard library."""

    x: int
    y: int = 2
    names: dict[str, int] = dataclasses.field(default_factory=dict)


def test_it_is_a_dataclass() -> None:
    assert [f.name for f in dataclasses.fields(Point)] == ["x", "y", "names"]
    assert dataclasses.asdict(Point(1)) == dataclasses.asdict(Standard(1))
    assert dataclasses.replace(Point(1, 3), x=5) == Point(5, 3)
    assert repr(Point(1, names={"a": 1})) == repr(Standard(1, names={"a": 1})).replace(
        "Standard", "Point")


def test_defaults_are_not_shared() -> None:
    first, second = Point(1), Point(1)
    first.names["a"] = 1
    assert second.names == {}


def test_equality_and_hash() -> None:
    ref = BufferRef("arena", 0, 4)
    assert ref == BufferRef("arena", 0, 4, 0)
    assert ref != BufferRef("arena", 0, 8)
    assert ref != ("arena", 0, 4, 0)
    assert len({ref, BufferRef("arena", 0, 4), BufferRef("arena", 4, 4)}) == 2


def test_it_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot change 'x' of Point"):
        Point(1).x = 2  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del Point(1).x


@pytest.mark.parametrize("given", [{}, {"x": 1, "z": 2}])
def test_wrong_arguments(given) -> None:
    with pytest.raises(TypeError, match=r"Point.__init__\(\)"):
        Point(**given)


def test_copies() -> None:
    point = Point(1, 2, {"a": 1})
    assert pickle.loads(pickle.dumps(point)) == copy.deepcopy(point) == point
    assert Plan.__doc__
