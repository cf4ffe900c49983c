"""Documents tell the truth: commands and examples run, names exist, pages are current."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from bessemer.core import errors

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks of a page in that language."""
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.M | re.S)


def commands(path: Path) -> list[list[str]]:
    """The lines of the shell blocks of a page, split into words, comments left out."""
    lines = [line for block in blocks(path, "sh") for line in block.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs a command in a folder, by this Python."""
    if words[0] == "bessemer":
        words = ["python", "-m", "bessemer", *words[1:]]
    environment = {**os.environ, "BESSEMER_CACHE_DIR": str(folder / "cache")}
    return subprocess.run(
        [sys.executable, *words[1:]], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_readme_commands_run(tmp_path):
    for words in commands(ROOT / "README.md"):
        if words[0] != "make":
            if words[:3] == ["python", "-m", "bessemer.zoo"]:
                words += ["--width", "0.25", "--size", "64"]  # quick
            done = run(words, tmp_path)
            assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_exist(page):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    asked = {words[1] for words in commands(page) if words[0] == "make"}
    asked |= set(re.findall(r"`make ([a-z]+)`", page.read_text()))
    assert asked <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_examples_run(page, tmp_path):
    for number, block in enumerate(blocks(page, "python")):
        file = tmp_path / f"example_{number}.py"
        file.write_text(block)
        done = run(["python", str(file)], tmp_path)
        assert done.returncode == 0, f"{page.name}, example {number}\n{done.stderr}"


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.stem)
def test_example_runs(path, tmp_path):
    done = run(["python", str(path)], tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_named_exist(page):
    from bessemer.cli.registry import COMMANDS

    known = {name.split()[0] for name in COMMANDS.names()}
    named = set(re.findall(r"`bessemer ([a-z]+)", page.read_text()))
    named |= {words[1] for words in commands(page) if words[0] == "bessemer"}
    assert named <= known


def test_every_error_has_a_paragraph():
    text = (ROOT / "docs" / "errors.md").read_text()
    classes = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.BessemerError)
    }
    assert set(re.findall(r"^## (\w+)\n\n\w", text, re.M)) == classes


def test_every_command_is_described():
    from bessemer.cli.registry import COMMANDS

    page = (ROOT / "docs" / "cli.md").read_text()
    assert set(re.findall(r"^## bessemer ([a-z ]+)$", page, re.M)) == set(COMMANDS.names())


def test_map_is_current():
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "make_map.py"), "--check"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_operators_are_current():
    page = (ROOT / "docs" / "operators.md").read_text()
    if f"of onnx {onnx.__version__} " not in page:
        pytest.skip("the page is about another onnx")
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "make_operators.py"), "--check"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
