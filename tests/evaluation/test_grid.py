"""What is tried: the syntax of a number's values, and the numbers that a clustering has."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samevoice.evaluation.grid import GridError, grid_of, values

AGGLOMERATIVE = {
    "clustering": "AgglomerativeClustering",
    "method": "centroid",
    "min_cluster_size": 12,
    "threshold": 0.7045654963945799,
    "segmentation_step": 0.1,
    "min_duration_off": 0.0,
    "embedding_exclude_overlap": True,
}
VBX = {**AGGLOMERATIVE, "clustering": "VBxClustering", "threshold": 0.6, "Fa": 0.07, "Fb": 0.8}


def test_ranges_lists_and_both() -> None:
    assert values("0.5:0.9:0.1") == (0.5, 0.6, 0.7, 0.8, 0.9)
    assert values("4, 12,8,4") == (4, 8, 12)
    assert values("0.7,0.5:0.6:0.05,0.55") == (0.5, 0.55, 0.6, 0.7)
    assert values("1:2:0.4") == (1.0, 1.4, 1.8)


@given(st.integers(-50, 50), st.integers(1, 20), st.integers(0, 30), st.integers(0, 3))
def test_a_range_holds_its_end_and_decimals_as_typed(
    first: int, step: int, count: int, digits: int
) -> None:
    scale = Decimal(10) ** -digits
    start, by, last = first * scale, step * scale, (first + count * step) * scale
    found = values(f"{start}:{last}:{by}")
    assert found == tuple(float(start + k * by) for k in range(count + 1))
    assert values(",".join(map(str, reversed(found)))) == found


@given(st.text("0123456789.:,-e+ naif", max_size=20))
def test_whatever_is_typed_is_values_or_one_sentence(text: str) -> None:
    with suppress(GridError):  # and no other error
        found = values(text)
        assert found == tuple(sorted(set(found)))
        assert 1 <= len(found) <= 1000 * (text.count(",") + 1)


@pytest.mark.parametrize("text", ["", "x", "1:2", "1:2:0", "2:1:1", "1,", "nan", "inf", "1:2:3:4"])
def test_what_is_no_value(text: str) -> None:
    with pytest.raises(GridError, match=r"no number|no range"):
        values(text)


def test_too_many() -> None:
    with pytest.raises(GridError, match="more than 1000 values"):
        values("0:1:0.0001")
    with pytest.raises(GridError, match="the grid has 1010 candidates: at most 1000"):
        grid_of(AGGLOMERATIVE, 10.0, {"threshold": "0.01:1.01:0.01", "min_cluster_size": "1:10:1"})


def test_the_usual_grid_has_the_pipelines_own_numbers() -> None:
    grid = grid_of(AGGLOMERATIVE, 10.0, {})
    own = {
        "step": 1.0,
        "method": "centroid",
        "min_cluster_size": 12,
        "threshold": 0.7045654963945799,
    }
    assert grid.own == own
    assert own in grid.candidates
    assert grid.shape == (1, 1, 3, 10)
    assert grid.numbers(tuple(k or 0 for k in grid.own_at)) == own
    assert grid_of(VBX, 5.0, {}).own == {"step": 0.5, "threshold": 0.6, "Fa": 0.07, "Fb": 0.8}


def test_what_is_asked_for_is_all_that_is_tried() -> None:
    asked = {"threshold": "0.5,0.6", "min_cluster_size": "4", "method": "average,centroid"}
    grid = grid_of(AGGLOMERATIVE, 10.0, {**asked, "step": "2,5", "Fa": None})
    assert grid.axes == {
        "step": (2.0, 5.0),
        "method": ("average", "centroid"),
        "min_cluster_size": (4,),
        "threshold": (0.5, 0.6),
    }
    assert grid.own_at == (None, 1, None, None)
    assert grid.only(5.0).axes["step"] == (5.0,)


@pytest.mark.parametrize(
    ("settings", "asked", "said"),
    [
        (AGGLOMERATIVE, {"Fa": "1"}, "AgglomerativeClustering has no Fa: its numbers are method"),
        (VBX, {"method": "ward"}, "VBxClustering has no method: its numbers are threshold, Fa, Fb"),
        (VBX, {"min_cluster_size": "4"}, "VBxClustering has no min_cluster_size"),
        (AGGLOMERATIVE, {"method": "best"}, "asks for method 'best'; supported: average"),
        (AGGLOMERATIVE, {"method": ","}, "method names no value to try"),
        (AGGLOMERATIVE, {"min_cluster_size": "4.5"}, "it must be a whole number"),
        (AGGLOMERATIVE, {"threshold": "0:1:0.1"}, "threshold 0 cannot be"),
        (AGGLOMERATIVE, {"step": "11"}, "step 11 is more than a chunk's 10 s"),
        ({**VBX, "clustering": "KMeansClustering"}, {}, "KMeansClustering has no numbers to tune"),
    ],
)
def test_what_the_clustering_does_not_have(
    settings: dict[str, Any], asked: dict[str, str | None], said: str
) -> None:
    with pytest.raises(GridError) as error:
        grid_of(settings, 10.0, asked)
    assert said in str(error.value)
