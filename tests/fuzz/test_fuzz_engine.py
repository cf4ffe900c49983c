"""A short run of the engine-file fuzzer; the long one is `python -m bessemer.debug.fuzz_engine`."""

import random

from bessemer.debug import fuzz_engine


def test_short_run() -> None:
    report = fuzz_engine.fuzz(250, seed=7)
    assert report.failures == []
    assert sum(report.outcomes.values()) == 250
    assert report.outcomes["EngineFormatError"] > 150


def test_every_mutation_changes_the_file_or_is_harmless() -> None:
    engines = fuzz_engine.seed_engines()
    for mutation in fuzz_engine.BLIND + fuzz_engine.REPAIRED:
        content = engines["host"][0]
        assert any(mutation(bytearray(content), random.Random(i)) != content for i in range(5))


def test_a_crash_is_found(monkeypatch) -> None:
    monkeypatch.setattr(fuzz_engine.sys, "executable", "/bin/false")
    report = fuzz_engine.fuzz(2)
    assert len(report.failures) == 2
    assert "ended with 1" in report.failures[0]
