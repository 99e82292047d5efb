"""One process that runs cases until it is told no more; whoever started it survives its death."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from fuzz import goods
from fuzz.guard import Guard, Ran
from fuzz.targets import BY_NAME, TARGETS, Command, Target, draw, files, read_rttm, read_uem

MEMORY = 6 << 30  # of addresses beyond what the imports took: a file may not ask for more


class Worker:
    """A folder of good files, one of which is bad while a case runs."""

    def __init__(self, goods_folder: Path, folder: Path, outside: Path) -> None:
        from samevoice import cli

        self.main = cli.main
        cli.app.command("rttm")(_rttm)
        cli.app.command("uem")(_uem)
        self.goods, self.folder = goods_folder, folder
        shutil.copytree(goods_folder, folder)
        for name in ("out", "tmp"):
            (folder / name).mkdir()
        tempfile.tempdir = str(folder / "tmp")
        os.chdir(folder)
        self.guard = Guard(folder, outside)
        self.state = self._look()

    def good(self) -> dict[str, list[str]]:
        """What is wrong with commands on good files: nothing, or the harness proves nothing."""
        wrong: dict[str, list[str]] = {}
        for target in TARGETS:
            if target.name == "playlist":
                continue
            for command in target.commands:
                ran = self._run(command.of(files(self.goods, target)[0]), command)
                faults = ran.faults or ([f"exit code {ran.code}: {ran.err}"] if ran.code else [])
                if faults:
                    wrong[f"{target.name}: {command.words}"] = faults
        return wrong

    def case(self, seed: str, target: Target, number: int) -> dict[str, Any]:
        """One file spoilt, one command run, and what it did wrong."""
        drawn = draw(self.goods, seed, target, number)
        return self.spoilt(target, number, drawn.command, drawn.file, drawn.after)

    def spoilt(
        self, target: Target, number: int, command: Command, file: str, after: bytes
    ) -> dict[str, Any]:
        before = (self.goods / file).read_bytes()
        Path(file).write_bytes(after)
        self.state[file] = _stamp(file)
        ran = self._run(command.of(file), command)
        noted = command.noted and command.noted in " ".join(ran.out.split())
        if ran.code == 0 and not noted and before != after and command.counts(before, after):
            ran.faults.append("said to be good, though it was changed in what counts")
        shutil.copy2(self.goods / file, file)
        self.state[file] = _stamp(file)
        said = {"target": target.name, "number": number, "file": file, "words": command.words}
        return {**said, "code": ran.code, "err": ran.err[-600:], "faults": ran.faults}

    def _run(self, words: list[str], command: Command) -> Ran:
        ran = self.guard.run(lambda: self.main(words), may_change=command.changes)
        if ran.code and (left := sorted(os.listdir("out"))):
            ran.faults.append(f"failed, and left out/{left[0]}")
        now = self._look()
        names = now.keys() | self.state.keys()
        others = [name for name in sorted(names) if now.get(name) != self.state.get(name)]
        if strange := [x for x in others if not x.startswith(command.changes or ("\0",))]:
            ran.faults.append(f"changed {strange[0]}")
        self._restore(others)
        return ran

    def _look(self) -> dict[str, tuple[int, int]]:
        return {
            f"{folder[2:]}/{name}".lstrip("/"): _stamp(os.path.join(folder, name))
            for folder, _, names in os.walk(".")
            for name in names
            if not folder.startswith(("./out", "./tmp"))
        }

    def _restore(self, names: list[str]) -> None:
        for name in names:
            Path(name).unlink(missing_ok=True)
            if (self.goods / name).exists():
                shutil.copy2(self.goods / name, name)
                self.state[name] = _stamp(name)
        for place in ("out", "tmp"):
            shutil.rmtree(place, ignore_errors=True)
            os.mkdir(place)


def _stamp(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_size, found.st_mtime_ns


def _rttm(file: Annotated[str, typer.Argument()]) -> None:
    read_rttm(["rttm", file])


def _uem(file: Annotated[str, typer.Argument()]) -> None:
    read_uem(["uem", file])


def warm_up() -> None:
    """Whatever is imported late is imported before anything is measured."""
    import matplotlib.pyplot  # noqa: F401
    import torch  # noqa: F401

    from samevoice.converters.reference import import_pyannote

    import_pyannote()


def _bounded() -> None:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    with suppress(ValueError):  # where the system allows less
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, resource.RLIM_INFINITY))


def _tell(answers: TextIO, said: Any) -> None:
    print(json.dumps(said), file=answers, flush=True)


def main() -> None:
    """Cases as lines of JSON on standard input; a line when each begins, and one when it ended."""
    goods_folder, folder, outside, seed = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    goods.feed_little()
    warm_up()
    worker = Worker(Path(goods_folder), Path(folder), Path(outside))
    _bounded()
    _tell(answers, {"good": worker.good()})
    for line in sys.stdin:
        asked = json.loads(line)
        target = BY_NAME[asked["target"]]
        if "bytes" in asked:
            command = next(x for x in target.commands if x.words == asked["words"])
            data = Path(asked["bytes"]).read_bytes()
            _tell(answers, worker.spoilt(target, asked["number"], command, asked["file"], data))
        else:
            _tell(answers, worker.case(seed, target, asked["number"]))


if __name__ == "__main__":
    main()
