"""DiariZen in MLX against its authors' own class, where that is installed; and without it."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any

import pytest

from samevoice.parity.gallery import Spoiler
from samevoice.parity.listening import ReferenceError
from samevoice.parity.originals import diarizen

pytest.importorskip("torch")


def test_a_pruned_one_is_right_and_its_bugs_are_found(pyannote: Any) -> None:
    del pyannote
    if find_spec("diarizen") is None:
        pytest.skip(
            "DiariZen is not on the path: git clone https://github.com/BUTSpeechFIT/DiariZen"
        )
    spoiler = Spoiler("reference:DiariZen/small")
    verdict = spoiler.verdict()
    (output,) = [tap for tap in verdict.taps if tap.name == "output" and tap.mode == "free"]
    assert output.noise_ratio < 2
    wanted = {"softmax over who looks", "the gates of the position bias dropped"}
    cases = {case.bug.name: case for case in spoiler.cases() if case.bug.name in wanted}
    assert cases.keys() == wanted
    for case in cases.values():
        found = spoiler.spoilt(case)
        assert found.found == found.where != ""


def test_without_it_one_line_says_how_to_get_it(
    pyannote: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    del pyannote
    monkeypatch.setitem(sys.modules, "diarizen", None)
    for name in [name for name in sys.modules if name.startswith("diarizen.")]:
        monkeypatch.delitem(sys.modules, name)
    diarizen._classes.cache_clear()
    with pytest.raises(ReferenceError, match="run git clone https"):
        diarizen._classes()
    diarizen._classes.cache_clear()
