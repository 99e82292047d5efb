"""docs/result.md names every field, and older schemas are upgraded or refused by their number."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import made_results
import pytest

from samevoice.parity import result as results
from samevoice.parity.bounds import Limit
from samevoice.parity.inputs import Input
from samevoice.parity.judge import TapVerdict, Worst
from samevoice.parity.limits import Limits, Loosened
from samevoice.parity.metrics import HISTOGRAM_BINS
from samevoice.parity.result import SCHEMA, Artefact, Result, ResultError, dumps, loads

DOCUMENT = (Path(__file__).parents[2] / "docs" / "result.md").read_text(encoding="utf-8")
SECTIONS: dict[str, Any] = {
    "## The result": Result,
    "### Artefact": Artefact,
    "### Input": Input,
    "## Taps": TapVerdict,
    "### Worst": Worst,
    "## Limits": Limits,
    "### Limit:": Limit,
    "### Loosened": Loosened,
}


def named(section: str) -> list[str]:
    """The first column of the section's table."""
    _, _, rest = DOCUMENT.partition(f"\n{section}")
    assert rest, f"docs/result.md has no section {section}"
    body = re.split(r"\n##+ ", rest)[0]
    return re.findall(r"^\| `(\w+)` \|", body, re.MULTILINE)


@pytest.mark.parametrize("section", list(SECTIONS))
def test_every_field_is_documented_and_no_other(section: str) -> None:
    assert named(section) == [x.name for x in fields(SECTIONS[section])]


def test_the_documented_numbers_are_the_codes() -> None:
    assert f"This page describes schema {SCHEMA}." in DOCUMENT
    assert f"{HISTOGRAM_BINS} integers" in DOCUMENT
    assert "UPGRADES" in DOCUMENT


def document(schema: int, **changes: Any) -> str:
    found = json.loads(dumps(made_results.green())) | {"schema": schema} | changes
    return json.dumps(found)


def test_the_table_of_upgrades_has_no_holes() -> None:
    assert set(results.UPGRADES) <= set(range(1, SCHEMA))


def test_an_older_schema_is_upgraded_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []

    def from_1(old: dict[str, Any]) -> dict[str, Any]:
        steps.append(old["schema"])
        kind = old.pop("kind")
        return {**old, "model_type": kind}

    def from_2(old: dict[str, Any]) -> dict[str, Any]:
        steps.append(old["schema"])
        return old

    monkeypatch.setattr(results, "SCHEMA", 3)
    monkeypatch.setattr(results, "UPGRADES", {1: from_1, 2: from_2})
    old = json.loads(document(1))
    old["kind"] = old.pop("model_type")
    assert loads(json.dumps(old)).model_type == "embedding"
    assert steps == [1, 2]
    assert loads(document(3)).schema == 3


def test_an_older_schema_without_a_way_is_refused_by_its_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(results, "SCHEMA", 3)
    monkeypatch.setattr(results, "UPGRADES", {2: lambda old: old})
    assert loads(document(2))
    with pytest.raises(ResultError, match="schema 1 is older than 3 and cannot be upgraded"):
        loads(document(1))


def test_a_newer_schema_is_refused_by_its_number() -> None:
    with pytest.raises(ResultError, match=f"schema {SCHEMA + 1} is newer than {SCHEMA}"):
        loads(document(SCHEMA + 1))
