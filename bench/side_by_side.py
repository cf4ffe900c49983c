"""Races Bessemer and other runtimes on the networks of the zoo, or on ONNX files.

    python bench/side_by_side.py [MODEL ...] [--peers a,b] [--threads N] [--batch N] [--streams N]

Each runtime that is installed runs in a process of its own; they take turns in short slices.
Prints a table; writes JSON and one HTML page with bars and a roofline. Models, engines and
conversions stay in the folder. A runtime that is missing or cannot run a model is named with the
reason.
"""

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path

from bessemer.bench.contest.page import render_page
from bessemer.bench.contest.race import RaceOptions
from bessemer.bench.contest.result import Report, geometric_mean, table
from bessemer.bench.contest.season import ZOO, SeasonOptions, season
from bessemer.bench.contest.task import peer_names
from bessemer.bench.machine import read_machine


def show(head: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(row[k]) for row in [head, *rows]) for k in range(len(head))]
    for row in [head, *rows]:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="names of the zoo or ONNX files; default: all")
    parser.add_argument("--peers", default=",".join(peer_names()), help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--streams", type=int, default=1,
                        help="inferences side by side, on one thread each")
    parser.add_argument("--rounds", type=int, default=5, help="slices of each runtime")
    parser.add_argument("--slice", type=float, default=0.6, help="seconds of a slice")
    parser.add_argument("--folder", type=Path, default=Path("build/bench"))
    parser.add_argument("--json", type=Path, help="default: results.json in the folder")
    parser.add_argument("--html", type=Path, help="default: results.html in the folder")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    given = parse(arguments)
    peers = tuple(given.peers.split(","))
    threads = given.streams if given.streams > 1 else given.threads
    options = SeasonOptions(given.folder, peers, threads, given.batch, given.streams,
                            RaceOptions(given.rounds, given.slice))
    machine = {name: value for name, value in dataclasses.asdict(read_machine()).items()
               if name in ("cpu", "architecture", "system", "cores", "usable_cores",
                           "memory_bytes", "huge_pages")}
    report = Report(machine)
    json_path = given.json or given.folder / "results.json"
    html_path = given.html or given.folder / "results.html"

    def tell(text: str) -> None:
        print(text, file=sys.stderr)

    for contest in season(given.models or ZOO, options, tell):
        report = Report(machine, (*report.contests, contest))
        json_path.write_text(json.dumps(report.as_dict(), indent=1) + "\n")
        html_path.write_text(render_page(report))
        for entry in contest.entries:
            if entry.reason:
                print(f"{contest.label}: {entry.name} did not run: {entry.reason}",
                      file=sys.stderr)
    show(*table(report.contests))
    print(f"geometric mean of the ratio to the best rival: {geometric_mean(report.contests):.2f}")
    print(f"{json_path} and {html_path} hold all figures")
    return 0


if __name__ == "__main__":
    sys.exit(main())
