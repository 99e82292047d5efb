"""samevoice tune as it is typed, on two pieces of a recording and a pipeline of narrow networks."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import made_up
import pytest
from made_corpus import PIECES
from typed import Answer, Run

import samevoice
from samevoice.converters import bundle as bundles
from samevoice.converters.inspect import inspect

FEW = "--threshold 0.01,0.1,1 --min-cluster-size 1,2"


@pytest.fixture
def tune(narrow: Path, pieces: Path, typed: Run, tmp_path: Path) -> Run:
    """In a folder with links to both; the bundle is called full, the corpus meetings."""
    (tmp_path / "full").symlink_to(narrow)
    (tmp_path / "meetings").symlink_to(pieces)

    def answer(words: str, code: int = 0) -> Answer:
        found = typed(f"tune {words}")
        assert found.code == code, found.err
        assert all(len(line) <= 80 for line in found.out.splitlines())
        return found

    return answer


def same_der(shown: dict[str, Any]) -> float:
    """The rate that the seconds of each recording add up to."""
    parts = shown["recordings"].values()
    wrong = sum(one["missed"] + one["false_alarm"] + one["confusion"] for one in parts)
    return float(wrong / sum(one["total"] for one in parts))


def test_the_grid_is_scored_and_the_choice_goes_into_a_copy(tune: Run, narrow: Path) -> None:
    before = bundles.file_hashes(narrow)
    given = f"meetings --model full {FEW} --step 5,10 --output tune.json --mlx-path tuned"
    said = tune(given).out
    found = json.loads(Path("tune.json").read_text())
    assert found["grid"]["step"] == [5, 10]
    assert len(found["candidates"]) == 2 * 2 * 3
    assert [one["uri"] for one in found["recordings"]] == sorted(PIECES)
    assert all(one["scored"] == [[0, 12]] and one["uem"] for one in found["recordings"])
    for shown in (found["own"], found["chosen"], *found["candidates"]):
        assert shown["der"] == pytest.approx(same_der(shown))
    least = min(one["der"] for one in found["candidates"])
    assert least <= found["chosen"]["der"] <= least + 0.001
    assert found["cross_validated"]["total"] == found["own"]["total"] == 3 * 13
    wrong = sum(one["missed"] + one["false_alarm"] + one["confusion"] for one in found["folds"])
    assert found["cross_validated"]["der"] == pytest.approx(wrong / (3 * 13))
    for what in ("own", "chosen", "cross_validated"):
        assert f"{found[what]['der']:.1%}" in said

    # The bundle is what it was; its copy has the numbers, and so has what export makes of it.
    assert bundles.file_hashes(narrow) == before
    numbers = found["chosen"]["numbers"]
    tuned = bundles.read_json(Path("tuned") / "config.json")["pipeline"]
    assert tuned["threshold"] == numbers["threshold"]
    assert tuned["min_cluster_size"] == numbers["min_cluster_size"]
    assert tuned["segmentation_step"] == numbers["step"] / 10
    shown = inspect("tuned")
    assert not shown.changed
    assert any("chosen by samevoice tune on 3 recordings" in note for note in shown.notes)
    assert (
        bundles.read_json(Path("tuned") / "provenance.json")["tuned"]["corpus"] == found["corpus"]
    )
    samevoice.to_torch("tuned", "back")
    samevoice.convert("back", "again")
    assert bundles.read_json(Path("again") / "config.json")["pipeline"] == tuned


def test_the_figures_are_those_of_the_turns_that_diarize_gives(tune: Run) -> None:
    """And a second run replaces its own result."""
    from samevoice.evaluation.corpora import read
    from samevoice.evaluation.scores import added, score
    from samevoice.models.diarization.pipeline import SpeakerDiarizationPipeline

    tune(f"meetings --model full {FEW} --output tune.json --mlx-path tuned")
    first = json.loads(Path("tune.json").read_text())
    tune(f"meetings --model full {FEW} --output tune.json")
    assert json.loads(Path("tune.json").read_text()) == first
    recordings = read("meetings").recordings
    for what, bundle in {"own": "full", "chosen": "tuned"}.items():
        pipeline = SpeakerDiarizationPipeline(bundle)
        turns = [pipeline(one.audio).speaker_diarization for one in recordings]
        pairs = zip(recordings, turns, strict=True)
        whole = added(score(one.reference, found, ((0, 12),)) for one, found in pairs)
        assert first[what]["der"] == pytest.approx(whole.der)
    assert first["chosen"]["der"] < first["own"]["der"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("nowhere", "nowhere is no corpus"),
        ("meetings --fa 0.1", "AgglomerativeClustering has no Fa"),
        ("meetings --threshold 1:2", "'1:2' is no range: write it as FIRST:LAST:STEP"),
        ("meetings --step 20", "step 20 is more than a chunk's 10 s"),
        ("meetings --folds 4", "4 folds of 3 recordings cannot be: 2 to 3"),
        ("meetings --mlx-path full", "exists: pass --overwrite"),
        ("meetings --mlx-path full --overwrite", "holds the bundle itself"),
        ("meetings --output meetings/one.rttm", "is read here and would be overwritten"),
        ("meetings --model nothing", "nothing: no such bundle"),
    ],
)
def test_what_cannot_be_is_one_line_before_the_work(
    tune: Run, words: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("samevoice.evaluation.tuning.hear", pytest.fail)
    model = "" if "--model" in words else "--model full"
    answer = tune(f"{words} {model}", 2)
    *before, last = answer.err.splitlines()
    assert said in last
    assert len(before) <= 1  # that the weights are made up


def test_a_corpus_that_is_damaged(tune: Run, pieces: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(pieces, broken)
    (broken / "all.uem").write_text("".join(f"{uri} 1 0 60\n" for uri in PIECES))
    assert (
        "one.wav ends at 12.0 s, but its UEM goes on to 60.0 s"
        in tune(f"broken --model full {FEW}", 2).err
    )
    (broken / "all.uem").unlink()
    (broken / "three.wav").write_bytes(b"RIFF")
    assert "three.wav" in tune(f"broken --model full {FEW} --step 10", 2).err
    (broken / "three.wav").unlink()
    assert (
        "three.rttm names 'three', and broken holds no such recording"
        in tune(f"broken --model full {FEW}", 2).err
    )
    (broken / "three.rttm").unlink()
    said = tune(f"broken --model full {FEW} --step 10").out
    assert "note  2 of 2 recordings without UEM: all of each was scored" in said


def test_a_bundle_that_was_changed_has_no_copy(tune: Run, narrow: Path) -> None:
    shutil.copytree(narrow, "other")
    config = Path("other") / "config.json"
    config.write_text(config.read_text().replace('_off": 0.0', '_off": 0.5'))
    answer = tune(f"meetings --model other {FEW} --mlx-path tuned", 2)
    assert "1 files of other are not as they were written, first 'config.json'" in answer.err
    made_up.record(Path("other"))
    answer = tune(f"meetings --model other {FEW} --mlx-path tuned", 2)
    assert "config.json of other and other/origin/config.yaml differ" in answer.err
    assert not Path("tuned").exists()


@pytest.mark.parametrize("package", ["metrics.diarization", "database"])
def test_a_missing_package_names_the_extra(
    tune: Run, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, f"pyannote.{package}", None)
    answer = tune("x.yml:A.SpeakerDiarization.B.test --model full", 2)
    assert "is not installed: pip install 'samevoice[evaluate]'" in answer.err
