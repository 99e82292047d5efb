"""The choice and its cross-validation, on scores that were made up."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_audio import recording, tone

from samevoice.evaluation.corpus import Recording
from samevoice.evaluation.grid import Grid, Numbers, Value
from samevoice.evaluation.scores import Score
from samevoice.evaluation.tuning import Tuning, TuningError, choose, hear, parts, tune
from samevoice.models.diarization.output import Turns

FLAT: dict[str, tuple[Value, ...]] = {"step": (1.0,), "method": ("centroid",)}
OWN: Numbers = {"step": 1.0, "method": "centroid", "threshold": 0.6}


def grid(*thresholds: float, **more: tuple[float | str, ...]) -> Grid:
    return Grid({**FLAT, **more, "threshold": thresholds}, OWN)


def tuned(rows: list[list[float]], folds: int | None = None) -> Tuning:
    """A row a recording, and in it the seconds of errors with each threshold."""
    scores = np.empty((1, 1, len(rows[0]), len(rows)), dtype=object)
    for column, row in enumerate(rows):
        scores[0, 0, :, column] = [Score(confusion=wrong, total=10) for wrong in row]
    thresholds = [0.5 + 0.1 * k for k in range(len(rows[0]))]
    return tune(grid(*thresholds), scores, folds)


# The choice ---------------------------------------------------------------------------------------


def chosen(wrong: list[float], own: int | None = None) -> int:
    (found,) = choose(np.array(wrong)[:, None], [own], [True])
    return found


def test_the_fewest_errors_win_and_equals_the_middle_of_their_plateau() -> None:
    assert chosen([3, 2, 1, 2]) == 2
    assert chosen([3, 1, 1, 1, 2]) == 2
    assert chosen([1, 1, 1, 1, 1, 4]) == 2
    assert chosen([1, 1, 3]) == 0  # two have no middle: the first
    assert chosen([1, 3, 1, 1, 1]) == 3  # the larger of two plateaus, not the middle of all
    assert chosen([1, 1 + 1e-9, 1]) == 1  # rounding makes no difference


def test_what_is_printed_as_equal_is_equal() -> None:
    """A thousandth of the speech, which is twenty seconds here: 0.02 s more."""
    assert tuned([[9, 3.0, 3.009, 3.005, 9]] * 2).chosen[-1] == 2
    assert tuned([[9, 3.0, 3.011, 3.005, 9]] * 2).chosen[-1] == 1
    # In a fold only the speech of the others counts.
    rows = [[9, 3.0, 3.0105, 3.0, 9], [9, 3.0, 3.005, 3.0, 9]]
    assert [fold.chosen[-1] for fold in tuned(rows).folds] == [2, 1]


def test_what_changes_nothing_stays_as_it_is() -> None:
    assert chosen([2, 2, 2, 2], own=3) == 3
    assert chosen([2, 2, 2, 2]) == 1  # its own is not there
    wrong = np.array([[4, 1, 1, 1, 4], [4, 1, 1, 1, 4.0]])[..., None]
    assert choose(wrong, [1, 0], [True, True]) == (1, 2)
    # It does change something on one recording, though not in the sum.
    both = np.array([[1.0, 2], [2, 1], [1, 2]])
    assert choose(both, [2], [True]) == (1,)


def test_a_plateau_goes_round_corners_but_not_from_method_to_method() -> None:
    corner = np.array([[1, 1, 1], [1, 5, 5], [1, 5, 5.0]])[..., None]
    assert choose(corner, [None, None], [True, True]) == (0, 0)
    methods = np.array([[1, 5, 5, 5], [1, 1, 1, 5.0]])[..., None]
    assert choose(methods, [None, None], [True, True]) == (1, 0)
    assert choose(methods, [None, None], [False, True]) == (1, 1)


# Cross-validation ---------------------------------------------------------------------------------


def test_each_recording_is_scored_with_what_the_others_choose() -> None:
    # The third wants 0.7 so much that all together do; the others alone want 0.5.
    found = tuned([[1, 2, 3], [1, 2, 3], [9, 8, 2]])
    assert found.chosen == (0, 0, 2)
    assert found.of(found.chosen).der == (3 + 3 + 2) / 30
    assert [fold.kept for fold in found.folds] == [(0,), (1,), (2,)]
    assert [fold.chosen[-1] for fold in found.folds] == [2, 2, 0]
    assert found.cross_validated == Score(confusion=3 + 3 + 9, total=30)


def test_folds_keep_neighbours_together() -> None:
    assert parts(5, 2) == [[0, 1, 2], [3, 4]]
    assert parts(3, None) == parts(3, 3) == [[0], [1], [2]]
    found = tuned([[1, 2], [1, 2], [9, 1], [9, 1]], folds=2)
    assert [(fold.kept, fold.chosen[-1]) for fold in found.folds] == [((0, 1), 1), ((2, 3), 0)]
    assert found.cross_validated.wrong == 2 + 2 + 9 + 9


@given(st.data())
def test_what_is_kept_aside_never_chooses(data: st.DataObject) -> None:
    sizes = st.tuples(st.integers(2, 4), st.integers(2, 5))
    count, candidates = data.draw(sizes)
    seconds = st.lists(st.integers(0, 3), min_size=candidates, max_size=candidates)
    rows: Any = data.draw(st.lists(seconds, min_size=count, max_size=count))
    aside = data.draw(st.integers(0, count - 1))
    before = tuned(rows).folds[aside]
    rows[aside] = data.draw(seconds)
    assert tuned(rows).folds[aside] == before


def test_too_few_recordings_or_folds() -> None:
    with pytest.raises(TuningError, match="one recording decides nothing"):
        parts(1, None)
    for folds in (1, 4):
        with pytest.raises(TuningError, match=f"{folds} folds of 3 recordings cannot be: 2 to 3"):
            parts(3, folds)


def test_what_lies_at_an_end_is_said_and_what_changes_nothing() -> None:
    assert tuned([[3, 2, 1], [3, 2, 1]]).edges == {"threshold": "largest"}
    assert tuned([[1, 2, 3], [1, 2, 3]]).edges == {"threshold": "smallest"}
    assert tuned([[2, 1, 2], [2, 1, 2]]).edges == {}
    still = tuned([[1, 1, 1], [2, 2, 2]])
    assert (still.idle, still.edges) == (("threshold",), {})


# Hearing ------------------------------------------------------------------------------------------


class Pipeline:
    """Two speakers where the threshold is below 0.65, else one; it counts what it is asked."""

    def __init__(self, threshold: float = 0.6, heard: list[str] | None = None) -> None:
        self.threshold, self.heard = threshold, [] if heard is None else heard
        self.frames = SimpleNamespace(sample_rate=16_000)

    def analyse(self, blocks: Any, *, tell: Any, duration: float) -> Any:
        self.heard.append("networks")
        return SimpleNamespace(samples=sum(map(len, blocks)))

    def with_settings(self, *, method: str, threshold: float) -> Pipeline:
        return Pipeline(threshold, self.heard)

    def assign(self, analysis: Any) -> Any:
        self.heard.append(f"{self.threshold:g}")
        return analysis

    def result(self, stages: Any, uri: str) -> Any:
        who = ("x", "y") if self.threshold < 0.65 else ("x", "x")
        turns = Turns.of([(0.0, 1.0, who[0]), (1.0, 2.0, who[1])], uri)
        return SimpleNamespace(speaker_diarization=turns)


def test_the_networks_run_once_and_every_candidate_is_scored(tmp_path: Path) -> None:
    pytest.importorskip("pyannote.metrics")
    two = Turns.of([(0, 1, "ana"), (1, 2, "bob")])
    one = Turns.of([(0, 2, "ana")])
    recordings = [
        Recording(name, recording(tmp_path / f"{name}.wav", tone(2.0)), turns, scored)
        for name, turns, scored in (("a", two, None), ("b", one, ((0.0, 1.5),)))
    ]
    pipeline, other = Pipeline(), Pipeline()
    tried = Grid({**FLAT, "step": (1.0, 2.0), "threshold": (0.5, 0.7, 0.8)}, OWN)
    found = hear(
        recordings,
        tried,
        {1.0: pipeline, 2.0: other},
        lambda at, one: nullcontext(lambda step, artefact, **_: None),
    )
    assert pipeline.heard == ["networks", "0.5", "0.7", "0.8", "0.6"] * 2
    assert other.heard == ["networks", "0.5", "0.7", "0.8"] * 2
    wrong = [[[s.confusion for s in row] for row in step] for step in found.scores[:, 0]]
    assert wrong == [[[0, 0.5], [1, 0], [1, 0]]] * 2
    assert [score.confusion for score in found.own] == [0, 0.5]
    assert found.regions == (((0.0, 2.0),), ((0.0, 1.5),))
