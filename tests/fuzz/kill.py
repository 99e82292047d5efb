"""make kill: commands killed at random moments, alone and two at once; what stays must be whole.

A parent that has imported everything forks a process for each command, so that a kill costs a
fraction of a second. The parent itself computes nothing: threads do not survive a fork.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from fuzz import goods
from fuzz.worker import warm_up

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0  # seconds for one command
State = dict[str, str]  # name -> what it holds


@dataclass(frozen=True)
class Job:
    """A command that writes into the folder t, and how many of its runs are killed."""

    name: str
    words: str
    kills: int
    pieces: bool = False  # whether it writes several things one after the other, each whole


_ON = "--model bundle --device cpu"
JOBS = (
    Job("convert", "convert full --mlx-path t/b --quiet --overwrite", 60),
    Job(
        "parity",
        "parity proof/bundle --source sources/zip.ckpt --output t/p --device cpu",
        40,
        pieces=True,
    ),
    Job(
        "release",
        "release proof/bundle --result proof/parity --license-ok --output t/r --overwrite",
        40,
    ),
    Job("diarize", f"diarize audio/a.wav {_ON} --output t/a.rttm", 40),
    Job("diarize m4a", f"diarize audio/a.m4a {_ON} --output t/a.rttm", 20),
    Job("enroll", f"speakers enroll Cleo audio/a.wav {_ON} --db t/v --main-speaker", 40),
)


@dataclass
class Outcome:
    """One kill, and what was wrong with what it left."""

    job: str
    number: int
    how: str
    faults: list[str] = field(default_factory=list)


class Field:
    """The folder in which commands run, and what a run that nobody disturbs makes of it."""

    def __init__(self, goods_folder: Path, folder: Path) -> None:
        shutil.copytree(goods_folder, folder)
        os.chdir(folder)
        self.clear()
        self.whole: dict[str, State] = {}
        self.seconds: dict[str, float] = {}

    def clear(self) -> None:
        for name in ("t", "tmp"):
            shutil.rmtree(name, ignore_errors=True)
            os.mkdir(name)

    def learn(self, job: Job) -> None:
        """A run in peace: what it makes, and how long it takes."""
        self.clear()
        for _ in range(2):  # the first reads from a cold disk
            started = time.monotonic()
            code = ended(start(job.words))
            self.seconds[job.name] = time.monotonic() - started
        if code or os.listdir("tmp"):
            raise RuntimeError(f"{job.name} fails in peace: {code}, {said()}")
        self.whole[job.name] = look("t")

    def kill(self, job: Job, number: int, seed: str) -> Outcome:
        random = Random(f"{seed} {job.name} {number}")
        number_of_signal = random.choice((signal.SIGKILL, signal.SIGTERM))
        two, over = random.random() < 0.3, random.random() < 0.4
        how = number_of_signal.name + ", two at once" * two + ", over an old one" * over
        found = Outcome(job.name, number, how)
        self.clear()
        before: State = {}
        if over:
            ended(start(job.words))
            before = look("t")
        victims = [start(job.words, f"{k}") for k in range(1 + two)]
        time.sleep(random.random() * self.seconds[job.name] * 1.1)
        os.kill(victims[0], number_of_signal)
        codes = [ended(victim) for victim in victims]
        found.faults += self._after(job, number_of_signal, codes, before)
        code = ended(start(job.words))
        if code:
            found.faults.append(f"the next run fails: {code}, {said()}")
        elif look("t") != self.whole[job.name]:
            found.faults.append(
                f"the next run leaves {_difference(look('t'), self.whole[job.name])}"
            )
        if left := os.listdir("tmp"):
            found.faults.append(f"a temporary file stays: {left[0]}")
        return found

    def _after(self, job: Job, number: int, codes: list[int], before: State) -> list[str]:
        faults = []
        if len(codes) > 1 and codes[1] not in (0, 2):
            faults.append(f"the other one ends with {codes[1]}: {said('1')}")
        whole, now = self.whole[job.name], look("t")
        shown = {name: held for name, held in now.items() if not hidden(name)}
        good = {name: held for name, held in whole.items() if not hidden(name)}
        old = {name: held for name, held in before.items() if not hidden(name)}
        if job.pieces:
            wrong = {k: v for k, v in shown.items() if v not in (good.get(k), old.get(k))}
        else:
            wrong = {} if shown in ({}, good, old) else shown
        if wrong:
            faults.append(f"what stays is neither whole nor absent: {_difference(wrong, good)}")
        if 0 in codes and not shown:
            faults.append("good, and yet nothing is there")
        stray = [name for name in now if hidden(name) and name not in whole]
        if number == signal.SIGTERM and (stray or os.listdir("tmp")):
            faults.append(f"left after SIGTERM: {(stray or os.listdir('tmp'))[0]}")
        return faults


def hidden(name: str) -> bool:
    return any(part.startswith(".") for part in Path(name).parts)


def look(folder: str) -> State:
    """Every file and what it holds, times of day left out."""
    found: State = {}
    for path in sorted(Path(folder).rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file():
            found[name] = hashlib.sha256(_held(path)).hexdigest()
        elif hidden(name):
            found[name] = "folder"
    return found


def _held(path: Path) -> bytes:
    """A page and a result tell how long they took: of these what must be there."""
    data = path.read_bytes()
    if path.name == "result.json":
        try:
            return json.dumps(json.loads(data)["taps"], sort_keys=True).encode()
        except ValueError:
            return data
    if path.suffix in (".html", ".md", ".xml", ".svg"):
        return data.rstrip()[-7:]
    if path.name == "speakers.json":
        return json.dumps(json.loads(data)["speakers"]).encode()
    return data


def _difference(now: State, wanted: State) -> str:
    names = sorted(now.keys() ^ wanted.keys()) or [k for k in now if now[k] != wanted[k]]
    return ", ".join(names[:3])


def start(words: str, name: str = "0") -> int:
    """A command in a process and a session of its own."""
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        tempfile.tempdir = os.path.abspath("tmp")
        file = os.open(f"said{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number in (1, 2):
            os.dup2(file, number)
        from samevoice import cli

        cli.main(words.split())
    except SystemExit as asked:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(asked.code if isinstance(asked.code, int) else 1)
    except BaseException:
        os._exit(70)
    os._exit(71)


def said(name: str = "0") -> str:
    return Path(f"said{name}").read_text()[-300:].strip()


def ended(child: int) -> int:
    """Its exit code, once nothing of its session is left; one that stays is an error, and ended."""
    late = time.monotonic() + PATIENCE
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > late:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return 124
        time.sleep(0.002)
    late = time.monotonic() + 3.0
    while left := in_session(child):
        if time.monotonic() > late:
            for one in left:
                os.kill(one, signal.SIGKILL)
            return 125
        time.sleep(0.01)
    return os.waitstatus_to_exitcode(status)


def in_session(session: int) -> list[int]:
    """Processes that live on after their parent."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def apart(work: Callable[[], Any]) -> None:
    """In a process of its own, so that this one stays without threads."""
    child = os.fork()
    if not child:
        try:
            work()
        except BaseException as error:
            print(error, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        raise RuntimeError("the good files could not be made")


def run(share: float, seed: str, only: list[str]) -> list[Outcome]:
    """Every job's share of kills."""
    warm_up()
    goods.feed_little()
    found = []
    with tempfile.TemporaryDirectory(prefix="kill-") as folder:
        place = Path(folder)
        (place / "outside").mkdir()
        apart(lambda: goods.make(place / "goods", place / "outside"))
        here = Path.cwd()
        ground = Field(place / "goods", place / "field")
        for job in JOBS:
            if only and job.name not in only:
                continue
            ground.learn(job)
            kills = max(round(job.kills * share), 1)
            found += [ground.kill(job, number, seed) for number in range(kills)]
        os.chdir(here)
    return found


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seed", default="1")
    options.add_argument("--share", type=float, default=1.0)
    options.add_argument("--only", action="append", default=[])
    options.add_argument("--out", type=Path, default=ROOT / "out" / "fuzz")
    asked = options.parse_args()
    started = time.monotonic()
    found = run(asked.share, asked.seed, asked.only)
    seconds = round(time.monotonic() - started)
    kills = Counter(one.job for one in found)
    failures = Counter(one.job for one in found if one.faults)
    for name, count in kills.items():
        print(f"{name:<20} {count:>6} kills {failures[name]:>5} failures")
    for one in found:
        for fault in one.faults:
            print(f"{one.job} {one.number} ({one.how}): {fault}")
    print(f"{len(found)} kills, {sum(failures.values())} failures, {seconds} s")
    asked.out.mkdir(parents=True, exist_ok=True)
    rows = {name: {"kills": kills[name], "failures": failures[name]} for name in kills}
    told = {"seed": asked.seed, "seconds": seconds, "jobs": rows}
    (asked.out / "kills.json").write_text(json.dumps(told, indent=1) + "\n")
    return int(any(failures.values()))


if __name__ == "__main__":
    sys.exit(main())
