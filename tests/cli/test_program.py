"""The program as a whole: help, exit codes, messages, pure JSON, fast start."""

import inspect
import json
import subprocess
import sys

import pytest

from bessemer.cli.registry import COMMANDS
from bessemer.core.switches import SWITCHES

EXPECTED = {
    "bench", "build", "check", "compare", "debug bisect", "debug compare", "demo", "doctor",
    "inspect", "passes", "profile", "run", "settings", "version",
}


def test_all_commands_are_there():
    assert set(COMMANDS.names()) >= EXPECTED


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_help_says_what_and_shows_an_example(program, name):
    done = program(*name.split(), "--help")
    assert done.code == 0
    entry = COMMANDS.get(name)
    first = inspect.getdoc(entry.function).split()[0]
    assert first in done.out
    assert entry.example in done.out
    assert f"bessemer {name}" in entry.example
    assert entry.example.startswith("bessemer") or "=" in entry.example.split()[0]


def test_help_lists_the_commands(program):
    done = program("--help")
    assert done.code == 0
    for name in EXPECTED:
        assert name.split()[0] in done.out


@pytest.mark.parametrize(
    "arguments", [("nonsense",), ("check",), ("check", "a", "b"), ("build", "--nonsense", "x")],
)
def test_wrong_usage_ends_with_2(program, arguments):
    done = program(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert "Error" in done.err


@pytest.mark.parametrize("command", ["check", "inspect", "build", "run", "bench", "profile",
                                     "compare", "debug bisect", "debug compare"])
def test_a_missing_file_is_one_message(program, command, tmp_path):
    done = program(*command.split(), tmp_path / "none.onnx")
    assert done.code == 1
    assert done.out == ""
    assert "none.onnx" in done.err
    assert "Traceback" not in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("content", [b"", b"\x00\x01garbage" * 20, b"\x08\x07\x12"])
def test_a_damaged_model_is_one_message(program, tmp_path, content):
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    done = program("check", path)
    assert done.code == 1
    assert "bad.onnx" in done.err + done.out
    assert "Traceback" not in done.err


def test_debug_level_shows_the_traceback(program, monkeypatch, tmp_path):
    monkeypatch.setenv("BESSEMER_DEBUG", "1")
    from bessemer.core.errors import ModelFormatError

    with pytest.raises(ModelFormatError):
        program("check", tmp_path / "none.onnx")


def test_a_wrong_setting_is_one_message(program, monkeypatch):
    monkeypatch.setenv("BESSEMER_THREADS", "many")
    done = program("settings")
    assert done.code == 1
    assert "BESSEMER_THREADS" in done.err


def test_settings_tell_their_origin(program, monkeypatch):
    monkeypatch.setenv("BESSEMER_THREADS", "3")
    done = program("settings", "--json")
    rows = {row["variable"]: row for row in json.loads(done.out)}
    assert rows["BESSEMER_THREADS"]["value"] == 3
    assert rows["BESSEMER_THREADS"]["origin"] == "environment"
    assert rows["BESSEMER_CACHE_DIR"]["origin"] == "default"
    assert rows["BESSEMER_CACHE_DIR"]["value"].endswith("bessemer")


def test_passes_are_in_order(program):
    rows = json.loads(program("passes", "--json").out)
    positions = [row["position"] for row in rows if row["position"]]
    assert positions == sorted(positions)
    assert all(row["what"] for row in rows)


def test_methods_that_can_be_left_out_stand_behind_the_passes(program):
    rows = json.loads(program("passes", "--json").out)
    assert [row["name"] for row in rows if row["kind"] == "method"] == list(SWITCHES)
    text = program("passes").out
    assert all(name in text for name in SWITCHES)


def test_version_is_json(program):
    assert "bessemer" in json.loads(program("version", "--json").out)
    assert program("--version").out.startswith("bessemer ")


def test_doctor_reports(program):
    done = program("doctor", "--no-self-test", "--json")
    report = json.loads(done.out)
    names = {check["name"] for check in report["checks"]}
    assert {"versions", "processor", "target", "threads", "caches", "energy", "cache"} <= names
    assert done.code == (0 if report["healthy"] else 1)


def test_help_starts_fast_and_light():
    code = (
        "import sys; from bessemer.cli.main import main; main(['--help']); "
        "heavy = {'llvmlite', 'onnx', 'onnxruntime', 'torch', 'bessemer.compiler.build'}; "
        "sys.exit(f'loaded {heavy & set(sys.modules)}' if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_module_is_the_same_program():
    done = subprocess.run(
        [sys.executable, "-m", "bessemer", "--version"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert done.stdout.startswith("bessemer ")


def test_a_fault_is_told_without_a_traceback():
    code = (
        "import sys, bessemer.bench.machine as machine; from bessemer.cli.main import main\n"
        "def broken(): raise RuntimeError('planted')\n"
        "machine.package_versions = broken; sys.argv = ['bessemer', 'version']; sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "planted" in done.stderr
    assert "fault in Bessemer" in done.stderr
    assert "Traceback" not in done.stderr
