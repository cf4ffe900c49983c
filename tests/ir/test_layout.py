"""Layouts: packing and unpacking are inverse, and both ways of packing agree."""

import numpy as np
import pytest

from bessemer.ir.layout import Layout, Part

CASES = [
    (Layout.plain(3), (2, 3, 4)),
    (Layout.plain(0), ()),
    (Layout.blocked(4, 1, 16), (2, 20, 3, 5)),
    (Layout.blocked(4, 1, 8).with_halo(((0, 0), (0, 0), (1, 2), (3, 0))), (1, 8, 4, 4)),
    (Layout((Part(1), Part(0)), ((0, 0), (0, 0))), (3, 7)),
    (Layout((Part(0, 32), Part(1, 16), Part(2), Part(3), Part(1, 1, 16), Part(0, 1, 32)),
            ((0, 0),) * 4), (40, 20, 3, 3)),
    (Layout((Part(1, 8), Part(0), Part(1, 1, 8)), ((0, 0), (0, 0))), (5, 19)),
    (Layout.blocked(2, 1, 4), (3, 0)),
]


@pytest.mark.parametrize(("layout", "shape"), CASES, ids=lambda x: str(x))
def test_pack_and_unpack_are_inverse(layout, shape):
    array = np.arange(1, 1 + int(np.prod(shape)), dtype=np.float32).reshape(shape)
    physical = layout.pack(array)
    assert physical.shape == layout.physical_shape(shape)
    np.testing.assert_array_equal(layout.unpack(physical, shape), array)
    np.testing.assert_array_equal(physical, layout._pack_by_index(array))
    assert np.count_nonzero(physical) == array.size


def test_same_bytes():
    blocked = Layout.blocked(4, 1, 16)
    assert blocked.same_bytes(Layout.plain(4), (1, 32, 1, 1))
    assert not blocked.same_bytes(Layout.plain(4), (1, 32, 2, 1))
    assert not blocked.same_bytes(Layout.plain(4), (1, 20, 1, 1))
    assert str(blocked) == "NCHW16c"
