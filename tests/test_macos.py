"""What can be seen here of what a Mac does otherwise (docs/macos.md)."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = [ROOT / "Makefile", ROOT / "action.yml", *(ROOT / ".github" / "workflows").glob("*.yml")]
# What GNU's tools, make 4 and bash 4 have, and those of macOS do not.
FOREIGN = {
    "an edit in place without a suffix": r"\bsed (-\w+ )*-i ",
    "alternatives in a basic pattern": r"\b(grep|sed)( -[a-df-zA-DF-Z]\w*)* ['\"][^'\"]*\\\|",
    "Perl's patterns": r"\bgrep -\w*P",
    "a long option": r"\b(sed|grep|cp|head|tail|sort|cut|date|stat)( -\w+)* --\w",
    "a tool of GNU's": r"\b(readlink -f|xargs -\w*r|tac|nproc|timeout \d|sha256sum|mapfile)\b",
    "make 4's words": r"^\.(ONESHELL|SHELLFLAGS)|^\w+ (::|!)= |\$\((file|guile) ",
    "upper case by bash 4": r"\$\{\w+(\^\^|,,)",
}


@pytest.mark.parametrize("what", FOREIGN)
def test_scripts_need_no_gnu_tools(what: str) -> None:
    for path in SCRIPTS:
        lines = path.read_text(encoding="utf-8").splitlines()
        found = [line for line in lines if re.search(FOREIGN[what], line)]
        assert not found, f"{path.name}: {found[0]}"


def test_no_two_files_differ_in_case_alone() -> None:
    ask = ["git", "-C", str(ROOT), "ls-files"]
    done = subprocess.run(ask, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("no clone")
    names = Counter(name.casefold() for name in done.stdout.splitlines())
    assert [name for name, count in names.items() if count > 1] == []


def test_every_proof_that_the_page_names_is_there() -> None:
    page = (ROOT / "docs" / "macos.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", page))
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    assert named
    assert {name for name in named if f"def {name}(" not in tests} == set()
