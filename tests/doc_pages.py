"""Pages of Markdown as a reader follows them: their blocks in order, run, held to their word."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
# In braces: what only the site understands.
FENCE = re.compile(r"^```([a-z]*|\{[a-z-]+\})\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
ANYTHING = "..."
# A figure: what differs from machine to machine. Whole numbers are counts, and must be right.
FIGURE = re.compile(
    r"(?<![\w.])[-−+]?(?:(?:\d[\d,]*)?\.\d+(?:e[-+]?\d+)?|\d+e[-+]?\d+|∞)(?![\w]|\.\w)"
)
RATIO = re.compile(r"(?<=noise_ratio is )[^,]+")  # has no point where it is large
FOLDERS = re.compile(r"(?<![\w/.])/(?:[\w.-]+/)+")  # of a path from the root: everybody has others
HASH = re.compile(r"\b[0-9a-f]{12,64}\b")


@dataclass(frozen=True)
class Block:
    """One fenced block; ``line`` is where its text starts."""

    language: str
    text: str
    line: int
    # What stands right below it as ```text is what it prints.
    prints: str | None = None

    @property
    def file(self) -> str | None:
        """The path that its first line names, where the block is a file or a change of one."""
        named = re.match(r"(?:#|---) ([\w./-]+\.\w+)\n", self.text)
        return named[1] if named else None

    @property
    def is_script(self) -> bool:
        return self.text.startswith("#!")


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found: list[Block] = []
    end = -1
    for match in FENCE.finditer(text):
        language, inside = match[1], match[2]
        if language == "text" and found and not text[end : match.start()].strip():
            above = found.pop()
            found.append(Block(above.language, above.text, above.line, prints=inside))
        else:
            line = text.count("\n", 0, match.start(2)) + 1
            found.append(Block(language, inside, line))
        end = match.end()
    return found


def pages() -> list[Path]:
    """Every page there is, those of tomorrow included."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


# Shells -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Command:
    """A line as it is typed, and what the page shows of its answer; None where it shows nothing."""

    words: str
    line: int
    shown: str | None = None


def commands(block: Block) -> Iterator[Command]:
    """The commands of an sh or console block, their continued lines joined."""
    shell = block.language == "console"
    lines = iter(enumerate(block.text.splitlines(), start=block.line))
    typed, shown, at = "", [], 0
    for number, line in lines:
        if shell and not line.startswith("$ "):
            shown.append(line)
            continue
        if typed:
            yield Command(typed, at, "\n".join(shown) if shown else None)
        typed, shown, at = line.removeprefix("$ "), [], number
        while typed.endswith("\\"):
            typed = typed[:-1] + next(lines)[1].removeprefix("> ").strip()
        if not typed.strip() or typed.startswith("#"):
            typed = ""
    if typed:
        yield Command(typed, at, "\n".join(shown) if shown else None)


def bare(words: str) -> str:
    """A command without the comment behind it."""
    return re.sub(r"(^|\s+)#\s.*$", "", words).strip()


# Answers ------------------------------------------------------------------------------------------


def same(shown: str, said: str, folder: Path) -> bool:
    """Whether what a page shows is what came: figures, hashes and paths aside.

    A line ``...`` stands for any lines, also for none.
    """
    wanted = [_plain(line, folder) for line in shown.splitlines()]
    came = [_plain(line, folder) for line in said.splitlines()]
    wanted = [line for line in wanted if line]
    came = [line for line in came if line]
    parts: list[list[str]] = [[]]
    for line in wanted:
        if line == ANYTHING:
            parts.append([])
        else:
            parts[-1].append(line)
    return _fits(parts, came)


def _fits(parts: list[list[str]], came: list[str]) -> bool:
    """The first part at the start, the last at the end, those between them in order."""
    first, *rest = parts
    if came[: len(first)] != first:
        return False
    if not rest:
        return len(came) == len(first)
    *middle, last = rest
    at = len(first)
    for part in middle:
        starts = range(at, len(came) - len(part) + 1)
        found = next((k for k in starts if came[k : k + len(part)] == part), None)
        if found is None:
            return False
        at = found + len(part)
    return len(came) - len(last) >= at and came[len(came) - len(last) :] == last


def _plain(line: str, folder: Path) -> str:
    line = FOLDERS.sub("", line.replace(f"{folder}/", ""))
    line = HASH.sub("HASH", FIGURE.sub("N", RATIO.sub("N", line)))
    return " ".join(line.split())


# A page being followed ----------------------------------------------------------------------------


@dataclass
class Answer:
    code: int
    text: str


@dataclass
class Page:
    """A folder in which a page's blocks run one after the other."""

    folder: Path
    env: dict[str, str]
    code: int = 0  # of the last command, for `echo $?`
    _python: subprocess.Popen[str] | None = field(default=None, repr=False)

    def shell(self, words: str) -> Answer:
        """A command as bash runs it; what it sets stays set."""
        if match := re.fullmatch(r"(?:export )?([A-Z_]+)=(\S*)", bare(words)):
            self.env[match[1]] = self._run(f"echo {match[2]}").text.strip()
            return Answer(0, "")
        done = self._run(f"(exit {self.code})\n{words}")
        self.code = done.code
        return done

    def step(self, text: str, **env: str) -> Answer:
        """Several lines at once, ended by the first that fails, as GitHub runs them."""
        return self._run(text, "-e", **env)

    def script(self, text: str, **env: str) -> Answer:
        """A whole script, which says itself what ends it."""
        return self._run(text, **env)

    def _run(self, text: str, *flags: str, **env: str) -> Answer:
        done = subprocess.run(
            ["bash", *flags, "-c", text],
            cwd=self.folder,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return Answer(done.returncode, done.stdout)

    def python(self, code: str, name: str, line: int) -> Answer:
        if self._python is None:
            self._python = subprocess.Popen(
                [sys.executable, str(ROOT / "tests" / "doc_server.py"), "python"],
                cwd=self.folder,
                env=self.env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._python.stdin is not None
        assert self._python.stdout is not None
        self._python.stdin.write(json.dumps({"code": code, "name": name, "line": line}) + "\n")
        self._python.stdin.flush()
        answer = json.loads(self._python.stdout.readline())
        return Answer(0 if answer["good"] else 1, answer["text"])

    # Files ----------------------------------------------------------------------------------------

    def write(self, block: Block) -> None:
        path = self.folder / str(block.file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)

    @contextmanager
    def changed(self, diff: Block) -> Iterator[None]:
        """A file with the lines that a diff takes away and puts there, for a while."""
        path, lines = self.folder / str(diff.file), diff.text.splitlines(keepends=True)[1:]
        before = path.read_text()
        old, new = ("".join(x[1:] for x in lines if x[0] in kept) for kept in (" -", " +"))
        assert before.count(old) == 1, f"{diff.line}: not once in {diff.file}:\n{old}"
        path.write_text(before.replace(old, new))
        try:
            yield
        finally:
            path.write_text(before)

    def install(self, folder: Path) -> None:
        """As pip does with --editable, but beside the environment that all tests share."""
        site = self.folder.parent / "site"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
        pip += ["--no-build-isolation", "--target", str(site), str(folder)]
        subprocess.run(pip, check=True, cwd=self.folder)
        found = [str(folder), str(site), *filter(None, [self.env.get("PYTHONPATH")])]
        # What its own files make it do is never another page's answer.
        self.env |= {"PYTHONPATH": os.pathsep.join(found), "SAMEVOICE_DOC_SHARED": ""}

    def close(self) -> None:
        if self._python is not None:
            self._python.communicate()


# Workflows ----------------------------------------------------------------------------------------


def workflow(block: Block) -> dict[str, object]:
    """GitHub's YAML, in which the key ``on`` is no boolean."""
    found: Mapping[object, object] = yaml.safe_load(block.text)
    return {"on" if key is True else str(key): value for key, value in found.items()}
