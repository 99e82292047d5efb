"""The tables in docs/releasing.md are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

from samevoice.release.terms import TERMS
from samevoice.release.verify import CHECKS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "releasing.md").read_text(encoding="utf-8")


def table(heading: str) -> list[tuple[str, str]]:
    found = re.search(rf"^\| {heading} \|.*\n\| --- \| --- \|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert found is not None
    return re.findall(r"^\| `([a-z0-9]+)` \| (.+) \|$", found[1], re.MULTILINE)


def test_every_term_and_every_check_stands_there_and_no_other() -> None:
    assert table("term") == [(term.name, term.says) for term in TERMS]
    assert table("check") == [(check.name, check.says) for check in CHECKS]
