"""Imports never point back, heavy packages stay out of the runtime, names agree."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "bessemer"

_TO_RUNTIME = {
    "core", "ir", "te", "ops", "targets", "frontends", "passes", "lower", "schedule", "codegen",
    "engine", "runtime",
}  # fmt: skip
# Which folders a folder may import, besides itself. "" are the modules beside the folders.
MAY_IMPORT: dict[str, set[str]] = {
    "core": set(),
    "ir": {"core"},
    "te": {"core", "ir"},
    "ops": {"core", "ir", "te"},
    "targets": {"core", "te"},
    "frontends": {"core", "ir", "ops"},
    "passes": {"core", "ir", "te", "ops", "targets"},
    "lower": {"core", "ir", "te", "ops", "targets"},
    "schedule": {"core", "ir", "te", "lower", "targets"},
    "codegen": {"core", "te", "lower", "targets"},
    "engine": {"core"},
    "runtime": {"core", "engine", "ir"},  # host operators are decoded from their text
    "zoo": {"core"},
    "tune": _TO_RUNTIME,
    "compiler": _TO_RUNTIME | {"tune"},
    "bench": _TO_RUNTIME | {"tune", "compiler", "zoo"},
    "debug": _TO_RUNTIME | {"tune", "compiler", "bench"},
    "cli": _TO_RUNTIME | {"tune", "compiler", "bench", "debug", "zoo"},
    "": _TO_RUNTIME | {"tune", "compiler", "bench", "debug", "cli"},
}
# Folders that need not have a package to work, and must not load it.
_WITHOUT_LLVM_AND_ONNX = {"core", "ir", "te", "ops", "engine", "runtime", "targets"}
_VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "handler"}

MODULES = sorted(SOURCE.rglob("*.py"))


def folder_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else ""


def imported_modules(path: Path) -> list[tuple[int, str]]:
    """Line and full name of each import; `from a import b` gives a.b where a is bessemer."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            module = node.module or ""
            if module == "bessemer":
                found += [(node.lineno, f"bessemer.{alias.name}") for alias in node.names]
            else:
                found.append((node.lineno, module))
    return found


def test_table_names_every_folder():
    folders = {path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists()}
    assert folders == set(MAY_IMPORT) - {""}


def test_table_has_no_cycle():
    done: set[str] = set()
    while len(done) < len(MAY_IMPORT):
        ready = {name for name, below in MAY_IMPORT.items() if below <= done} - done
        assert ready, f"a cycle among {sorted(set(MAY_IMPORT) - done)}"
        done |= ready


@pytest.mark.parametrize("folder", MAY_IMPORT, ids=lambda name: name or "top")
def test_imports_follow_the_table(folder):
    wrong = []
    for path in (path for path in MODULES if folder_of(path) == folder):
        for line, name in imported_modules(path):
            parts = name.split(".")
            if parts[0] != "bessemer" or len(parts) < 2 or parts[1] in (folder, "__version__"):
                continue
            if (SOURCE / parts[1]).is_dir() and parts[1] not in MAY_IMPORT[folder]:
                wrong.append(f"{path.relative_to(SOURCE)}:{line} imports {name}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("folder", sorted(_WITHOUT_LLVM_AND_ONNX))
def test_light_folders_name_no_heavy_package(folder):
    wrong = [
        f"{path.relative_to(SOURCE)}:{line} imports {name}"
        for path in MODULES
        if folder_of(path) == folder
        for line, name in imported_modules(path)
        if name.split(".")[0] in ("llvmlite", "onnx", "onnxruntime", "torch")
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "statement",
    ["import bessemer", "import bessemer; bessemer.load", "import bessemer.runtime",
     "import bessemer.runtime.engine", "import bessemer.ops"],
)  # fmt: skip
def test_running_needs_neither_llvm_nor_onnx(statement):
    code = (
        f"{statement}\nimport sys\n"
        "heavy = sorted({'llvmlite', 'onnx', 'torch', 'sklearn'} & set(sys.modules))\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_module_has_a_vague_name():
    vague = [str(path.relative_to(SOURCE)) for path in MODULES if path.stem in _VAGUE_NAMES]
    assert not vague


def test_every_module_says_what_it_is():
    silent = [
        str(path.relative_to(SOURCE))
        for path in MODULES
        if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent


def registered_names(path: Path, decorator: str) -> list[tuple[str, str]]:
    """(registered name, class name) of the classes under `@decorator("name")` in a file."""
    found = []
    for node in ast.parse(path.read_text()).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for call in node.decorator_list:
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
                first = call.args[0] if call.args else None
                if call.func.id == decorator and isinstance(first, ast.Constant):
                    found.append((str(first.value), node.name))
    return found


@pytest.mark.parametrize(
    "path", sorted((SOURCE / "passes").glob("*.py")), ids=lambda path: path.stem
)
def test_pass_names_agree(path):
    for registered, class_name in registered_names(path, "graph_pass"):
        assert registered.replace("-", "_") == path.stem
        assert class_name.lower() == registered.replace("-", "")
