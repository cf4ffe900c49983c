"""Tuning records: what was measured, in one SQLite file that can be exported and merged."""

import contextlib
import json
import logging
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bessemer.core.errors import SettingsError
from bessemer.core.settings import settings
from bessemer.tune.space import Candidate

RECORD_VERSION = 2
"""Raised when generated code changes so much that old timings no longer say which is faster."""

_LOG = logging.getLogger("bessemer.tune")
_WAIT_SECONDS = 10.0
_TABLES = """
CREATE TABLE IF NOT EXISTS kernels (
    key TEXT PRIMARY KEY, chip TEXT NOT NULL, threads INTEGER NOT NULL, description TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS trials (
    key TEXT NOT NULL, version INTEGER NOT NULL, rule TEXT NOT NULL, knobs TEXT NOT NULL,
    base TEXT NOT NULL, seconds REAL NOT NULL, ratio REAL NOT NULL, slices INTEGER NOT NULL,
    clean INTEGER NOT NULL, wrong INTEGER NOT NULL,
    PRIMARY KEY (key, version, base, rule, knobs));
CREATE TABLE IF NOT EXISTS searches (
    key TEXT NOT NULL, version INTEGER NOT NULL, base TEXT NOT NULL, effort REAL NOT NULL,
    PRIMARY KEY (key, version, base));
CREATE TABLE IF NOT EXISTS networks (
    key TEXT NOT NULL, version INTEGER NOT NULL, ratio REAL NOT NULL, PRIMARY KEY (key, version));
"""


@dataclass(frozen=True)
class KernelRecord:
    """A kernel that something was measured for."""

    key: str
    chip: str
    threads: int
    description: str


@dataclass(frozen=True)
class Trial:
    """One schedule of a kernel, measured beside `base`, the schedule that the formula chooses.

    `seconds` and `ratio` (to the base) are medians over `slices` rounds; `clean` is false if they
    were disturbed, `wrong` true if its results were not those of the base.
    """

    key: str
    rule: str
    knobs: str
    base: str
    seconds: float
    ratio: float
    slices: int
    clean: bool = True
    wrong: bool = False
    version: int = RECORD_VERSION

    @property
    def candidate(self) -> Candidate:
        """The schedule. Raises: ValueError for knobs that nobody wrote."""
        return Candidate.parse(self.rule, self.knobs)


class Records:
    """The records of a user. A context manager; every `add` is a transaction of its own.

    A file that cannot be opened or written is no error for a build: records are then kept in
    memory, with a warning.
    """

    def __init__(self, path: Path | None) -> None:
        """`path` None keeps records in memory."""
        self.path = path
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._open(str(path) if path is not None else ":memory:")
        except (OSError, sqlite3.Error) as error:
            _LOG.warning("tuning records of %s are not used: %s", path, error)
            self.path = None
            self._file = self._open(":memory:")

    @staticmethod
    def from_settings() -> "Records":
        """The user's records; in memory where the settings turn the cache off."""
        current = settings()
        default = current.cache_folder / "tuning.sqlite" if current.cache else None
        return Records(current.records or default)

    @staticmethod
    def _open(name: str) -> sqlite3.Connection:
        file = sqlite3.connect(name, timeout=_WAIT_SECONDS)
        file.executescript(_TABLES)
        return file

    def __enter__(self) -> "Records":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def add(self, kernel: KernelRecord, trials: Iterable[Trial]) -> None:
        """Keeps trials of a kernel; what was known of the same schedules is replaced."""
        rows = [tuple(asdict(trial).values()) for trial in trials]
        names = ",".join(asdict(Trial("", "", "", "", 0, 0, 0)))
        marks = ",".join("?" * (names.count(",") + 1))
        with self._writing():
            self._file.execute("INSERT OR IGNORE INTO kernels VALUES (?,?,?,?)",
                               tuple(asdict(kernel).values()))
            self._file.executemany(f"INSERT OR REPLACE INTO trials ({names}) VALUES ({marks})",
                                   rows)

    def trials(self, key: str) -> list[Trial]:
        """What is known of a kernel, in a fixed order."""
        found = self._file.execute(
            "SELECT key, rule, knobs, base, seconds, ratio, slices, clean, wrong, version "
            "FROM trials WHERE key = ? AND version = ? ORDER BY base, ratio, rule, knobs",
            (key, RECORD_VERSION))
        return [_trial(row) for row in found]

    def effort(self, key: str, base: str) -> float:
        """How much was searched for a kernel whose formula chooses that schedule; 0 if nothing."""
        found = self._file.execute(
            "SELECT effort FROM searches WHERE key = ? AND version = ? AND base = ?",
            (key, RECORD_VERSION, base)).fetchone()
        return float(found[0]) if found else 0.0

    def set_effort(self, key: str, base: str, effort: float) -> None:
        """Notes how much was searched; it never goes down."""
        with self._writing():
            self._file.execute(
                "INSERT INTO searches VALUES (?,?,?,?) ON CONFLICT DO UPDATE "
                "SET effort = max(effort, excluded.effort)", (key, RECORD_VERSION, base, effort))

    def network(self, key: str) -> float | None:
        """A network's time with certain schedules by that with the formula's; None if unknown."""
        found = self._file.execute("SELECT ratio FROM networks WHERE key = ? AND version = ?",
                                   (key, RECORD_VERSION)).fetchone()
        return float(found[0]) if found else None

    def set_network(self, key: str, ratio: float) -> None:
        """Notes what a whole network's time was by that with the formula's schedules."""
        with self._writing():
            self._file.execute("INSERT OR REPLACE INTO networks VALUES (?,?,?)",
                               (key, RECORD_VERSION, ratio))

    def kernels(self) -> list[KernelRecord]:
        """All kernels, sorted."""
        rows = self._file.execute(
            "SELECT key, chip, threads, description FROM kernels ORDER BY key")
        return [KernelRecord(*row) for row in rows]

    def export(self) -> Iterator[str]:
        """JSON lines: one object per kernel, with its trials and searches of all versions."""
        for kernel in self.kernels():
            trials = [asdict(_trial(row)) for row in self._file.execute(
                "SELECT key, rule, knobs, base, seconds, ratio, slices, clean, wrong, version "
                "FROM trials WHERE key = ? ORDER BY version, base, rule, knobs", (kernel.key,))]
            searches = [list(row) for row in self._file.execute(
                "SELECT version, base, effort FROM searches WHERE key = ? ORDER BY version, base",
                (kernel.key,))]
            for trial in trials:
                del trial["key"]
            yield json.dumps(asdict(kernel) | {"trials": trials, "searches": searches})

    def merge(self, lines: Iterable[str], source: str = "records") -> int:
        """Adds exported records; returns how many trials. Raises: SettingsError naming the line."""
        count = 0
        for number, line in enumerate(lines, 1):
            try:
                kernel, trials, searches = _read_line(line)
            except (ValueError, TypeError, KeyError) as error:
                raise SettingsError(f"{source}, line {number}: no tuning record: {error}") from None
            self.add(kernel, trials)
            for version, base, effort in searches:
                if version == RECORD_VERSION:
                    self.set_effort(kernel.key, base, effort)
            count += len(trials)
        return count

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with self._file:
                yield
        except sqlite3.Error as error:
            _LOG.warning("tuning records are not kept in %s: %s", self.path, error)


def _trial(row: Any) -> Trial:
    key, rule, knobs, base, seconds, ratio, slices, clean, wrong, version = row
    return Trial(key, rule, knobs, base, seconds, ratio, slices, bool(clean), bool(wrong), version)


def _read_line(line: str) -> tuple[KernelRecord, list[Trial], list[tuple[int, str, float]]]:
    data = json.loads(line)
    kernel = KernelRecord(str(data["key"]), str(data["chip"]), int(data["threads"]),
                          str(data["description"]))
    trials = [Trial(kernel.key, **item) for item in data["trials"]]
    for trial in trials:
        if not trial.seconds > 0 or not trial.ratio > 0 or trial.candidate is None:
            raise ValueError(f"times of {trial.rule} are not positive")
    return kernel, trials, [(int(v), str(b), float(e)) for v, b, e in data["searches"]]
