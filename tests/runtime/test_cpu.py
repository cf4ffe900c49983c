"""What the machine is, from files that the system shows; and the settings."""

from pathlib import Path

import pytest

from bessemer.core.errors import SettingsError
from bessemer.core.settings import read_settings
from bessemer.runtime.cpu import cpu_features, missing_features, quota_cpus, usable_cpus


def group(tmp_path: Path, own: str, files: dict[str, str]) -> float | None:
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(text)
    return quota_cpus(tmp_path / "fs", tmp_path / "own")


@pytest.mark.parametrize("own, files, cpus", [
    ("0::/", {"cpu.max": "150000 100000\n"}, 1.5),
    ("0::/", {"cpu.max": "max 100000\n"}, None),
    ("0::/a/b", {"a/cpu.max": "200000 100000", "a/b/cpu.max": "max 100000"}, 2.0),
    ("0::/a/b", {"a/cpu.max": "50000 100000", "a/b/cpu.max": "400000 100000"}, 0.5),
    ("0::/../..", {"cpu.max": "100000 100000"}, 1.0),
    ("4:cpu,cpuacct:/x", {"cpu/x/cpu.cfs_quota_us": "300000",
                          "cpu/x/cpu.cfs_period_us": "100000"}, 3.0),
    ("4:cpu,cpuacct:/x", {"cpu/x/cpu.cfs_quota_us": "-1",
                          "cpu/x/cpu.cfs_period_us": "100000"}, None),
    ("", {}, None), ("rubbish", {"cpu.max": "rubbish"}, None),
    ("0::/", {"cpu.max": "100000 0"}, None),
])
def test_quota(tmp_path: Path, own: str, files: dict[str, str], cpus: float | None) -> None:
    assert group(tmp_path, own, files) == cpus


def test_quota_limits_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bessemer.runtime.cpu.os.sched_getaffinity", lambda _: set(range(8)))
    for quota, threads in ((1.5, 2), (0.1, 1), (100.0, 8), (None, 8)):
        monkeypatch.setattr("bessemer.runtime.cpu.quota_cpus", lambda quota=quota: quota)
        assert usable_cpus() == threads


def test_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "processor : 0\nflags : pni sse4_1 avx512_vnni abm lahf_lm\n\nprocessor : 1\nflags : x"
    (tmp_path / "cpuinfo").write_text(text)
    found = cpu_features.__wrapped__(str(tmp_path / "cpuinfo"))
    monkeypatch.setattr("bessemer.runtime.cpu.cpu_features", lambda: found)
    assert missing_features(["sse3", "sse4.1", "+sse4_1", "avx512vnni", "lzcnt", "sahf"]) == []
    assert missing_features(["avx2", "sse3", "x"]) == ["avx2", "x"]
    assert cpu_features.__wrapped__(str(tmp_path / "none")) == frozenset()


def test_settings() -> None:
    got = read_settings({"BESSEMER_THREADS": "4", "BESSEMER_CACHE": "off", "BESSEMER_DEBUG": "",
                         "BESSEMER_CACHE_DIR": "/tmp/x", "OTHER": "1"})
    assert (got.threads, got.cache, got.debug, got.cache_dir) == (4, False, 0, Path("/tmp/x"))
    assert read_settings({}).threads is None


@pytest.mark.parametrize("name, value, words", [
    ("THREADS", "0", "is not between 1 and 256"), ("THREADS", "two", "is not an integer"),
    ("CACHE", "maybe", "is not one of"), ("DEBUG", "9", "is not between 0 and 5"),
])
def test_wrong_settings(name: str, value: str, words: str) -> None:
    with pytest.raises(SettingsError, match=f"BESSEMER_{name}='{value}' {words}"):
        read_settings({f"BESSEMER_{name}": value})
