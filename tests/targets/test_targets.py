"""Targets: registry, lanes, and reading the host from the texts of /proc and /sys."""

import pytest

from bessemer.core.dtypes import DTYPES
from bessemer.core.errors import TargetError
from bessemer.targets import (
    TARGETS,
    check_runs_here,
    get_target,
    host_target,
    missing_flags,
    target_names,
)
from bessemer.targets.host import cache_sizes_bytes, parse_cpu_flags, parse_size_bytes


def test_names():
    assert set(target_names()) >= {"host", "x86-64-v2", "x86-avx2", "x86-avx512", "aarch64-neon"}
    for name in TARGETS.names():
        entry = get_target(name)
        assert entry.name == name
        assert entry.name in entry.describe()
        assert get_target(entry) is entry


@pytest.mark.parametrize(
    "name,dtype,lanes",
    [("x86-64-v2", "f32", 4), ("x86-avx2", "f32", 8), ("x86-avx512", "f32", 16),
     ("x86-avx512", "i8", 64), ("x86-avx512", "f64", 8), ("aarch64-neon", "f16", 8)],
)
def test_lanes(name, dtype, lanes):
    assert get_target(name).lanes(DTYPES[dtype]) == lanes


def test_unknown_name_gets_near_names():
    with pytest.raises(TargetError, match=r"unknown target 'x86-avx3'.*x86-avx2"):
        get_target("x86-avx3")


def test_host_runs_here():
    host = get_target("host")
    assert host is host_target()
    assert missing_flags(host) == ()
    check_runs_here(host)
    assert host.l1_bytes >= 8 << 10
    assert host.cores >= 1


def test_foreign_target_is_refused():
    foreign = "aarch64-neon" if host_target().architecture == "x86_64" else "x86-avx2"
    with pytest.raises(TargetError, match=f"target {foreign} needs"):
        check_runs_here(get_target(foreign))


def test_missing_flags_are_named(monkeypatch):
    monkeypatch.setattr("bessemer.targets.host.platform.machine", lambda: "x86_64")
    monkeypatch.setattr("bessemer.targets.host.cpu_flags", lambda: frozenset({"avx", "fma"}))
    assert "avx2" in missing_flags(get_target("x86-avx2"))
    assert "fma" not in missing_flags(get_target("x86-avx2"))


@pytest.mark.parametrize(
    "text,flags",
    [("processor\t: 0\nflags\t\t: fpu avx2\n\nflags : x\n", {"fpu", "avx2"}),
     ("Features\t: fp asimd\n", {"fp", "asimd"}), ("", set())],
)
def test_parse_cpu_flags(text, flags):
    assert parse_cpu_flags(text) == flags


@pytest.mark.parametrize("text,size", [("32K\n", 32768), ("2M", 2 << 20), ("100", 100), ("x", 0)])
def test_parse_size(text, size):
    assert parse_size_bytes(text) == size


def test_cache_sizes(tmp_path):
    for index, (level, kind, size) in enumerate(
        [("1", "Data", "48K"), ("1", "Instruction", "32K"), ("2", "Unified", "2M")]
    ):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        (folder / "level").write_text(level)
        (folder / "type").write_text(kind)
        (folder / "size").write_text(size)
    (tmp_path / "index9").mkdir()
    assert cache_sizes_bytes(tmp_path) == {1: 48 << 10, 2: 2 << 20}
