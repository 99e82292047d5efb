"""What plots are drawn from: small, the same every time, and nothing of what matters left out."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samevoice.parity import details


def test_samples_hold_the_extremes() -> None:
    reference = np.zeros(100_000, np.float32)
    reference[777], reference[888] = 5.0, -7.0
    candidate = reference.copy()
    candidate[4321] = 3.0
    found = details.sampled(reference, candidate, 100)
    assert len(found) <= 100
    assert [5.0, 5.0] in found
    assert [-7.0, -7.0] in found
    assert [0.0, 3.0] in found
    assert found == details.sampled(reference, candidate, 100)


def test_samples_survive_what_is_not_finite() -> None:
    reference = np.array([1.0, math.nan, math.inf, 2.0])
    found = details.sampled(reference, reference[::-1].copy(), 1000)
    assert len(found) == 4
    assert details.sampled(np.zeros(0), np.zeros(0), 10) == []
    assert len(details.sampled(np.full(3, math.nan), np.zeros(3), 10)) == 3


def test_all_samples_together_stay_small() -> None:
    one = np.arange(10_000.0)
    found = details.scatter({str(k): (one, one) for k in range(40)})
    assert len(found) == 40
    assert sum(map(len, found.values())) <= details.ALL_SAMPLES
    assert details.scatter({"shaped": (one, one[:5]), "empty": (one[:0], one[:0])}) == {}


@given(st.lists(st.integers(0, 3), min_size=1, max_size=50))
def test_runs_lose_nothing(decisions: list[int]) -> None:
    runs = details.runs(np.array(decisions))
    assert [kind for kind, length in runs for _ in range(length)] == decisions
    assert all(a[0] != b[0] for a, b in pairwise(runs))


def test_classes_have_the_names_of_their_speakers() -> None:
    powerset = ["none", "1", "2", "3", "1+2", "1+3", "2+3"]
    assert details.class_names(3, 2, 7, None) == powerset
    assert details.class_names(0, None, 3, None) == ["0", "1", "2"]
    assert details.class_names(3, 2, 5, None) == ["0", "1", "2", "3", "4"]
    assert details.class_names(2, None, 2, 0.5) == ["none", "1", "2", "1+2", "more"]


def test_independent_speakers_are_decided_by_the_threshold() -> None:
    scores = np.array([[0.1, 0.2], [0.9, 0.1], [0.2, 0.6], [0.7, 0.8]])
    names = details.class_names(2, None, 2, 0.5)
    assert [names[k] for k in details.decided(scores, 0.5)] == ["none", "1", "2", "1+2"]
    crowd = details.decided(np.ones((1, 5)), 0.5)
    assert details.class_names(5, None, 5, 0.5)[crowd[0]] == "more"


def timelines(outputs: dict[str, Any]) -> dict[str, Any]:
    return details.timelines(outputs, step=0.02, start=0.1, classes=["none", "1"])


def test_recordings_that_differ_come_first_and_few_are_kept() -> None:
    same = np.tile(np.array([[1.0, 0.0]]), (12, 5, 1))
    other = same.copy()
    other[11, 2] = [0.0, 1.0]
    found = timelines({"batch": (same, other)})
    assert len(found) == details.TIMELINES
    name, first = next(iter(found.items()))
    assert name == "batch, item 12"
    assert first["reference"] == [[0, 5]]
    assert first["candidate"] == [[0, 2], [1, 1], [0, 2]]
    assert (first["step"], first["start"], first["classes"]) == (0.02, 0.1, ["none", "1"])


def test_what_cannot_be_decided_is_left_out() -> None:
    one = np.ones((1, 4, 2))
    assert timelines({"nan": (one, one * math.nan), "flat": (one[0], one[0])}) == {}
    assert timelines({"shape": (one, one[:, :2]), "empty": (one[:, :0], one[:, :0])}) == {}


def test_the_tally_says_what_was_dropped_and_why() -> None:
    rows = [
        {"fate": "used", "rule": "as is", "source": "a", "target": "a", "why": ""},
        {"fate": "derived", "rule": "b + c", "source": "b", "target": "d", "why": ""},
        {"fate": "dropped", "rule": "drop", "source": "n1", "target": "", "why": "a counter"},
        {"fate": "dropped", "rule": "drop", "source": "n2", "target": "", "why": "a counter"},
    ]
    found = details.tensors({"tensors": rows, "notes": ["assumed: stride 10"]})
    assert found["counts"] == {"used": 1, "derived": 1, "dropped": 2}
    assert found["derived"] == [["b", "b + c", "d"]]
    assert found["dropped"] == [{"why": "a counter", "names": ["n1", "n2"]}]
    assert found["assumed"] == ["assumed: stride 10"]


@pytest.mark.parametrize("provenance", [{}, {"tensors": [3, "x"]}])
def test_a_provenance_without_a_tally_has_an_empty_one(provenance: dict[str, Any]) -> None:
    assert details.tensors(provenance)["counts"] == {}
