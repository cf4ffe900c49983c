"""Runs the backend tests of several releases of onnx, each installed beside Bessemer.

    python tests/conformance/run_versions.py --folder FOLDER

Makes a virtual environment for each release under FOLDER (once; it needs a package index), runs
all suites in it by the users' path, keeps the report as FOLDER/VERSION.json, and prints the lines
of the table in docs/conformance.md, with the tests that fail below. This takes some minutes for
each release. `--report` only reads the reports again.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
VERSIONS = ("1.14.1", "1.17.0", "1.19.1", "1.21.0", "1.23.2")
EXTRAS = {"1.14.1": ("numpy<2",)}
"""The float8 conversions of this release fail with numpy 2."""
SUITES = ("node", "simple", "real", "pytorch-converted", "pytorch-operator")
GOOD = ("pass", "checked")


def python_of(folder: Path, version: str) -> Path:
    """The Python of the environment with that release of onnx, made if it is not there."""
    place = folder / version
    python = place / "bin" / "python"
    if python.exists():
        return python
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needs = [need for need in project["dependencies"] if not re.match(r"onnx\b", need)]
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", f"onnx=={version}", "pillow", *needs,
         *EXTRAS.get(version, ())],
        check=True,
    )  # fmt: skip
    return python


def run(folder: Path, version: str, jobs: int) -> None:
    """Runs all suites with that release; the report goes to the folder."""
    runner = Path(__file__).parent / "run_backend.py"
    subprocess.run(
        [python_of(folder, version), runner, "--suite", "all", "--jobs", str(jobs), "--limit",
         "120", "--out", folder / f"{version}.json"],
        check=True, env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.DEVNULL,
    )  # fmt: skip


def table(folder: Path, versions: list[str]) -> str:
    """Lines of the table, one for each release, and the failures of each."""
    lines, failures = [], []
    for version in versions:
        report: dict[str, dict[str, Any]] = json.loads((folder / f"{version}.json").read_text())
        cells, good, total = [], 0, 0
        for suite in SUITES:
            counts = Counter(result["status"] for result in report[suite].values())
            passed = sum(counts[status] for status in GOOD)
            good, total = good + passed, total + len(report[suite])
            cells.append(f"{passed} of {len(report[suite])}")
        lines.append(f"| {version} | {' | '.join(cells)} | {good / total:.2%} |")
        failures += [
            f"{version} {suite} {name}: {result['status']}: {result['message'][:160]}"
            for suite in SUITES for name, result in report[suite].items()
            if result["status"] not in GOOD
        ]
    return "\n".join([*lines, "", *failures])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--versions", nargs="+", default=list(VERSIONS))
    parser.add_argument("--jobs", type=int, default=1, help="worker processes")
    parser.add_argument("--report", action="store_true", help="only print the table")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    folder = options.folder.resolve()
    if not options.report:
        for version in options.versions:
            run(folder, version, options.jobs)
    print(table(folder, options.versions))


if __name__ == "__main__":
    main()
