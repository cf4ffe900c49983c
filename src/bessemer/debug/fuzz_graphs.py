"""Random ONNX graphs through Bessemer, ONNX Runtime and the numpy reference: all must agree.

    python -m bessemer.debug.fuzz_graphs --count 1000 --seed 0 --out findings

Case i of a seed is always the same graph. What disagrees is shortened and written as a model, its
inputs and a text. docs/fuzzing.md lists where ONNX Runtime is known to differ, and why.
"""

import argparse
import logging
import os
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bessemer.debug.case_worker import run_cases, say
from bessemer.debug.random_graphs.cases import ORACLES, SYMBOLS, try_case
from bessemer.debug.random_graphs.examine import examine
from bessemer.debug.random_graphs.oracles import Rival

log = logging.getLogger("bessemer.debug")

GOOD = ("right", "known")
_EVERY = 500


@dataclass
class Report:
    """Counts of every status, operator and refusal, and the findings."""

    counts: Counter[str] = field(default_factory=Counter)
    operators: Counter[str] = field(default_factory=Counter)
    known: Counter[str] = field(default_factory=Counter)
    refusals: dict[int, dict[str, int]] = field(default_factory=dict)
    findings: list[dict[str, Any]] = field(default_factory=list)

    def add(self, entry: dict[str, Any]) -> None:
        """Counts one case."""
        status = entry["status"]
        if status == "crash" and entry.get("at") == "rival":
            status = entry["status"] = "rival crash"
        self.counts[status] += 1
        self.counts["cases"] += 1
        for name in ("nodes", "unstable", "compared", "outputs"):
            self.counts[name] += entry.get(name, 0)
        self.operators.update(entry.get("operators", ()))
        if status == "known":
            self.known.update(entry["message"].split(", "))
        elif status not in GOOD:
            self.findings.append(entry)


def fuzz(count: int, seed: int = 0, start: int = 0, oracle: str = "both",
         out: Path | None = None, symbols: str = "both", limit_s: float = 120.0,
         focus: str = "") -> Report:
    """Runs `count` cases of a seed from case `start` on; findings are written to `out`.

    `focus` names modules of rules, with commas between, whose operators come more often.
    """
    report = Report()

    def command(first: int, number: int) -> list[str]:
        words = [sys.executable, "-m", "bessemer.debug.fuzz_graphs", "--work", "--seed", str(seed),
                 "--start", str(first), "--count", str(number), "--oracle", oracle,
                 "--symbols", symbols, "--focus", focus]
        return [*words, "--out", str(out)] if out is not None else words

    with tempfile.TemporaryDirectory() as cache:
        # Objects of random kernels would fill the user's cache.
        environment = {**os.environ, "BESSEMER_CACHE_DIR": cache, "PYTHONWARNINGS": "ignore"}
        for entry in run_cases(command, start, start + count, limit_s, environment):
            report.add(entry)
            if entry["status"] not in GOOD:
                log.info("case %d: %s: %s", entry["index"], entry["status"], entry["message"])
            if report.counts["cases"] % _EVERY == 0:
                log.info("%s", dict(report.counts))
    return report


def work(seed: int, start: int, count: int, oracle: str, out: Path | None,
         symbols: str = "both", focus: str = "") -> None:
    """Runs cases in this process and tells the parent of each."""
    logging.disable(logging.CRITICAL)
    rival = Rival()
    for index in range(start, start + count):
        say({"start": index})
        outcome = try_case(seed, index, rival, oracle, lambda stage: say({"stage": stage}),
                           symbols, [name for name in focus.split(",") if name])
        if outcome.status not in GOOD:
            outcome = examine(outcome, rival, oracle, f"{seed}-{index}", out)
        say({"index": index, "status": outcome.status, "message": outcome.message,
             "nodes": outcome.nodes, "unstable": outcome.unstable, "compared": outcome.compared,
             "operators": outcome.operators})
    if out is not None:
        lines = [f"{number} {reason}" for reason, number in rival.refusals.most_common()]
        out.mkdir(parents=True, exist_ok=True)
        (out / f"refusals-{seed}-{start}.txt").write_text("\n".join(lines) + "\n")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="first case")
    parser.add_argument("--oracle", choices=ORACLES, default="both")
    parser.add_argument("--symbols", choices=SYMBOLS, default="both",
                        help="leave symbolic dimensions open, fix them, or either")
    parser.add_argument("--focus", default="",
                        help="files of rules (strings,ml_models) whose operators come more often")
    parser.add_argument("--out", type=Path, help="folder for the models of findings")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.seed, options.start, options.count, options.oracle, options.out,
             options.symbols, options.focus)
        return
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    began = time.monotonic()
    report = fuzz(options.count, options.seed, options.start, options.oracle, options.out,
                  options.symbols, focus=options.focus)
    log.info("%.0f s: %s", time.monotonic() - began, dict(report.counts))
    log.info("known: %s", dict(report.known))
    log.info("%d operators: %s", len(report.operators), dict(report.operators.most_common()))
    sys.exit(1 if report.findings else 0)


if __name__ == "__main__":
    main()
