"""Writes docs/map.md: one line per file of the package, from the modules' first docstring lines.

    python docs/make_map.py            writes the file
    python docs/make_map.py --check    exit code 1 if the file is out of date
"""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "bessemer"
MAP = ROOT / "docs" / "map.md"

_ORDER = ("", "core", "ir", "te", "ops", "targets", "frontends", "passes", "lower", "schedule",
          "codegen", "engine", "runtime", "compiler", "bench", "debug", "zoo", "cli")  # fmt: skip
_HEAD = """# Map of the source

One line per file, written by `python docs/make_map.py` from the first lines of the docstrings.
Folders are listed in the order in which data flows.
"""


def first_line(path: Path) -> str:
    """The first line of a module's docstring."""
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    return docstring.splitlines()[0] if docstring else ""


def folder_of(path: Path) -> str:
    """The top folder of a module; "" for those beside the folders."""
    parts = path.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else ""


def rank_of(folder: str) -> tuple[int, str]:
    """Where a folder stands in the map; unknown ones come last."""
    return (_ORDER.index(folder) if folder in _ORDER else len(_ORDER), folder)


def make_map() -> str:
    """The text of the map."""
    paths = [path for path in SOURCE.rglob("*.py") if first_line(path)]
    lines = [_HEAD]
    for folder in sorted({folder_of(path) for path in paths}, key=rank_of):
        package = SOURCE / folder / "__init__.py"
        lines.append(f"\n## {folder or 'bessemer'}\n\n{first_line(package)}\n")
        for path in sorted(path for path in paths if folder_of(path) == folder):
            if path != package:
                lines.append(f"- `{path.relative_to(SOURCE)}`: {first_line(path)}")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Writes or checks the map."""
    text = make_map()
    if "--check" in sys.argv:
        current = MAP.exists() and MAP.read_text() == text
        if not current:
            print("docs/map.md is out of date; run: make pages", file=sys.stderr)
        return 0 if current else 1
    MAP.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
