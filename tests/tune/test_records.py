"""Records: kept in a file, exported, merged, and harmless when the file is not."""

import json

import pytest

from bessemer.core.errors import SettingsError
from bessemer.tune.records import RECORD_VERSION, KernelRecord, Records, Trial

KERNEL = KernelRecord("k1", "chip", 2, "in i0 f32[4] constant")


def trial(ratio, knobs="{}", **other):
    return Trial("k1", "matmul", knobs, "matmul rows=6", 1e-3 * ratio, ratio, 6, **other)


def test_trials_are_found_again(tmp_path):
    path = tmp_path / "deep" / "records.sqlite"
    with Records(path) as records:
        records.add(KERNEL, [trial(1.0), trial(0.8, '{"rows":5}')])
        records.set_effort("k1", "matmul rows=6", 1.0)
    with Records(path) as records:
        assert [t.ratio for t in records.trials("k1")] == [0.8, 1.0]
        assert records.trials("k2") == []
        assert records.effort("k1", "matmul rows=6") == 1.0
        assert records.effort("k1", "matmul rows=4") == 0.0


def test_a_schedule_timed_again_replaces_what_was_known():
    with Records(None) as records:
        records.add(KERNEL, [trial(0.7)])
        records.add(KERNEL, [trial(0.95)])
        assert [t.ratio for t in records.trials("k1")] == [0.95]


def test_effort_never_goes_down():
    with Records(None) as records:
        records.set_effort("k1", "b", 300.0)
        records.set_effort("k1", "b", 1.0)
        assert records.effort("k1", "b") == 300.0


def test_other_versions_are_kept_but_not_used():
    with Records(None) as records:
        records.add(KERNEL, [trial(0.5, version=RECORD_VERSION + 1), trial(0.9, '{"rows":5}')])
        assert [t.ratio for t in records.trials("k1")] == [0.9]
        assert len(json.loads(next(records.export()))["trials"]) == 2


def test_export_and_merge(tmp_path):
    with Records(None) as one, Records(tmp_path / "other.sqlite") as other:
        one.add(KERNEL, [trial(1.0), trial(0.8, '{"rows":5}', wrong=True)])
        one.set_effort("k1", "matmul rows=6", 60.0)
        lines = list(one.export())
        assert other.merge(lines) == 2
        assert other.trials("k1") == one.trials("k1")
        assert other.effort("k1", "matmul rows=6") == 60.0
        assert list(other.export()) == lines


@pytest.mark.parametrize("line", [
    "", "{", "[]", '{"key": "k"}',
    '{"key":"k","chip":"c","threads":2,"description":"d","trials":[{"rule":"r"}],"searches":[]}',
    '{"key":"k","chip":"c","threads":2,"description":"d","searches":[],"trials":[{"rule":"r",'
    '"knobs":"{}","base":"b","seconds":-1,"ratio":1,"slices":3}]}',
    '{"key":"k","chip":"c","threads":2,"description":"d","searches":[],"trials":[{"rule":"r",'
    '"knobs":"no","base":"b","seconds":1,"ratio":1,"slices":3}]}'])
def test_lines_that_are_no_records_are_refused(line):
    with Records(None) as records:
        records.add(KERNEL, [trial(1.0)])
        good = next(records.export())
        with pytest.raises(SettingsError, match=r"a\.jsonl, line 2"):
            records.merge([good, line], "a.jsonl")


def test_a_file_that_is_no_database_is_left_alone(tmp_path, caplog):
    path = tmp_path / "records.sqlite"
    path.write_bytes(b"something else" * 100)
    with Records(path) as records:
        records.add(KERNEL, [trial(1.0)])
        assert len(records.trials("k1")) == 1
    assert "not used" in caplog.text
    assert path.read_bytes() == b"something else" * 100


def test_two_processes_may_write(tmp_path):
    path = tmp_path / "records.sqlite"
    with Records(path) as one, Records(path) as other:
        one.add(KERNEL, [trial(1.0)])
        other.add(KERNEL, [trial(0.8, '{"rows":5}')])
        assert len(one.trials("k1")) == len(other.trials("k1")) == 2
