"""A small engine made by hand, and an input for it."""

import dataclasses

import numpy as np
import pytest

from bessemer.debug.tiny_engine import tiny_engine_data, with_plan
from bessemer.engine.plan import EngineData
from bessemer.runtime.engine import Engine

COUNT = 1000


@pytest.fixture(scope="module")
def made() -> tuple[EngineData, np.ndarray]:
    """Its steps are said to be large, so that they run on all threads."""
    data, constant = tiny_engine_data(COUNT)
    steps = tuple(dataclasses.replace(step, bytes=1 << 22) for step in data.plan.steps)
    return with_plan(data, steps=steps), constant


@pytest.fixture
def engine(made) -> Engine:
    return Engine(made[0])


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(COUNT, np.float32)
