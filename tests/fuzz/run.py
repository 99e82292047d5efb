"""make fuzz: thousands of spoilt files, two processes, and a figure for each target.

python -m fuzz.run                          everything
python -m fuzz.run --only yaml --share 0.1  a tenth of the cases of one target
python -m fuzz.run --again out/fuzz/failures/yaml-17    one case that failed
"""

from __future__ import annotations

import argparse
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

from fuzz import goods
from fuzz.targets import BY_NAME, TARGETS, draw

SEED = "1"
HARD = 30.0  # seconds: a worker that did not stop itself by then is stopped
ROOT = Path(__file__).resolve().parents[2]
Case = dict[str, Any]
_ENV = {
    "PYTHONPATH": os.pathsep.join((str(ROOT / "tests"), str(ROOT / "src"))),
    "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1", "COLUMNS": "80", "TERM": "dumb",
    "PYANNOTE_METRICS_ENABLED": "0", "HF_HUB_OFFLINE": "1",
}  # fmt: skip


class Process:
    """A worker that is started again when it dies or hangs, and the cases it is given."""

    def __init__(self, place: Path, name: str, seed: str) -> None:
        self.place, self.name, self.seed = place, name, seed
        self.process: subprocess.Popen[str] | None = None
        self.good: dict[str, list[str]] = {}

    def run(self, asked: Case) -> Case:
        if self.process is None:
            self.process = self._started()
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        answer = self._answer(HARD)
        if answer is not None:
            return answer
        code = self.process.poll()
        what = "hangs: stopped from outside" if code is None else f"the process died: {code}"
        self.stop()
        return {**asked, "code": None, "err": "", "faults": [what]}

    def _started(self) -> subprocess.Popen[str]:
        folder = self.place / self.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        words = [sys.executable, "-m", "fuzz.worker", str(self.place / "goods"),
                 str(folder / "w"), str(self.place / "outside"), self.seed]  # fmt: skip
        env = {
            **os.environ,
            **_ENV,
            "MPLCONFIGDIR": str(folder / "mpl"),
            "HF_HOME": str(folder / "w" / "hf"),
        }
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env,
            stderr=(folder / "stderr").open("w"), start_new_session=True,
        )  # fmt: skip
        answer = self._answer(120.0)
        if answer is None:
            raise RuntimeError(f"no worker: {(folder / 'stderr').read_text()[-2000:]}")
        self.good = answer["good"]
        return self.process

    def _answer(self, seconds: float) -> Case | None:
        assert self.process is not None
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        line = self.process.stdout.readline() if ready else ""
        if ready and not line:
            self.process.wait()
        found: Case | None = json.loads(line) if line else None
        return found

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def plan(only: Sequence[str], share: float) -> list[Case]:
    """Every target's cases, mixed, so that two processes take as long as each other."""
    cases = [
        {"target": target.name, "number": number}
        for target in TARGETS
        if not only or target.name in only
        for number in range(max(round(target.cases * share), 1))
    ]
    Random(0).shuffle(cases)
    return cases


def run(cases: Sequence[Case], *, seed: str, processes: int, place: Path, out: Path) -> list[Case]:
    """Every case, and those that failed on disk."""
    for name in ("goods", "outside"):
        (place / name).mkdir()
    (place / "outside" / "secret.wav").write_bytes(b"nobody named this file")
    goods.make(place / "goods", place / "outside")
    started = [Process(place, f"p{k}", seed) for k in range(processes)]

    def work(number: int) -> list[Case]:
        mine = started[number]
        done = []
        for case in cases[number::processes]:
            answer = mine.run(case)
            done.append(answer)
            if answer["faults"]:
                keep(answer, place, out, seed)
        mine.stop()
        return done

    with ThreadPoolExecutor(processes) as pool:
        found = [case for part in pool.map(work, range(processes)) for case in part]
    good = {name: faults for one in started for name, faults in one.good.items()}
    return [*found, *({"target": "good files", "words": k, "faults": v} for k, v in good.items())]


def keep(case: Case, place: Path, out: Path, seed: str) -> None:
    """What is needed to run a case again, whatever becomes of the mutators."""
    folder = out / "failures" / f"{case['target'].replace(' ', '-')}-{case['number']}"
    folder.mkdir(parents=True, exist_ok=True)
    if "bytes" not in case:
        drawn = draw(place / "goods", seed, BY_NAME[case["target"]], case["number"])
        case.update(file=drawn.file, words=drawn.command.words)
        (folder / "file").write_bytes(drawn.after)
    (folder / "case.json").write_text(json.dumps({**case, "seed": seed}, indent=1) + "\n")


def again(folder: Path, place: Path) -> list[Case]:
    """One case from its folder, with the bytes that failed."""
    case = json.loads((folder / "case.json").read_text())
    asked = {key: case[key] for key in ("target", "number", "file", "words")}
    asked["bytes"] = str((folder / "file").resolve())
    return run([asked], seed=case["seed"], processes=1, place=place, out=folder.parents[1])


def figures(found: Iterable[Case]) -> dict[str, dict[str, int]]:
    cases: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    for case in found:
        cases[case["target"]] += 1
        failures[case["target"]] += bool(case["faults"])
    return {name: {"cases": cases[name], "failures": failures[name]} for name in sorted(cases)}


def show(found: list[Case], seconds: float) -> None:
    rows = figures(found)
    for name, row in rows.items():
        print(f"{name:<20} {row['cases']:>6} cases {row['failures']:>5} failures")
    kinds = Counter(_kind(case) for case in found if case["faults"])
    for kind, count in kinds.most_common():
        first = next(case for case in found if case["faults"] and _kind(case) == kind)
        print(f"{count:>5}  {kind}\n       first {first['target']} {first.get('number', '')}")
    total, failed = len(found), sum(bool(case["faults"]) for case in found)
    print(f"{total} cases, {failed} failures, {seconds:.0f} s")


def _kind(case: Case) -> str:
    return f"{case.get('words', '')[:60]}: {case['faults'][0][:160]}"


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seed", default=SEED)
    options.add_argument("--only", action="append", default=[])
    options.add_argument("--share", type=float, default=1.0)
    options.add_argument("--processes", type=int, default=2)
    options.add_argument("--out", type=Path, default=ROOT / "out" / "fuzz")
    options.add_argument("--again", type=Path)
    asked = options.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        place = Path(folder)
        if asked.again:
            found = again(asked.again, place)
        else:
            shutil.rmtree(asked.out / "failures", ignore_errors=True)
            found = run(plan(asked.only, asked.share), seed=asked.seed, processes=asked.processes,
                        place=place, out=asked.out)  # fmt: skip
    seconds = time.monotonic() - started
    show(found, seconds)
    if not asked.again:
        asked.out.mkdir(parents=True, exist_ok=True)
        told = {"seed": asked.seed, "seconds": round(seconds), "targets": figures(found)}
        (asked.out / "figures.json").write_text(json.dumps(told, indent=1) + "\n")
    return int(any(case["faults"] for case in found))


if __name__ == "__main__":
    sys.exit(main())
