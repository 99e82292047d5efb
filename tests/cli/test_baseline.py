"""samevoice evaluate --baseline: what an upgrade moved, on three pieces and narrow networks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_corpus import LINE
from made_release import edit
from typed import Run, ended

from samevoice.models.diarization.output import Turns
from samevoice.models.diarization.pipeline import SpeakerDiarizationPipeline

AGAIN = "evaluate meetings --model full --baseline old/evaluation.json --output new"


@pytest.fixture(scope="module")
def kept(narrow: Path, pieces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bundle called full, a corpus called meetings, and their evaluation."""
    folder = tmp_path_factory.mktemp("kept")
    (folder / "full").symlink_to(narrow)
    shutil.copytree(pieces, folder / "meetings")
    words = "evaluate", folder / "meetings", "--model", folder / "full", "--output", folder / "old"
    assert ended(*words) == 0
    return folder


@pytest.fixture
def old(kept: Path, typed: Run, tmp_path: Path) -> Path:
    shutil.copytree(kept, tmp_path, symlinks=True, dirs_exist_ok=True)
    return Path("old/evaluation.json")


def test_nothing_moved_and_the_gate_says_so(old: Path, typed: Run) -> None:
    again = typed(AGAIN)
    assert again.code == 0, again.err
    assert again.out.startswith("A and B give the same turns on 3 recordings.\nA  full-baseline\n")
    assert "note  since the baseline: the same bundle, versions and device" in again.out
    assert "note  0 of 3 recordings moved" in again.out
    a, b = json.loads(Path("new/evaluation.json").read_text())["systems"]
    assert (a["made_of"]["kind"], b["made_of"]["kind"]) == ("baseline", "bundle")
    assert a["made_of"]["mlx"] == b["made_of"]["mlx"]
    assert typed("gate new/evaluation.json --limit der_increase=0").code == 0


def test_what_moved_is_named_with_the_versions(
    old: Path, typed: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(old, lambda said: said["systems"][0]["made_of"].update(mlx="0.0.1"))
    call = SpeakerDiarizationPipeline.__call__

    def upgraded(self: Any, audio: Any, **options: Any) -> Any:
        found = call(self, audio, **options)
        if audio["uri"] != "two":
            return found
        return replace(found, speaker_diarization=Turns())

    monkeypatch.setattr(SpeakerDiarizationPipeline, "__call__", upgraded)
    again = typed(AGAIN)
    assert again.code == 0
    assert "since the baseline: mlx 0.0.1 -> " in again.out
    assert "1 of 3 recordings moved" in again.out
    (moved,) = json.loads(Path("new/evaluation.json").read_text())["pair"]["moved"]
    assert moved["uri"] == "two"
    assert moved["change"] > 0
    assert typed("gate new/evaluation.json --limit der_increase=0").code == 1


def test_another_corpus_is_told(old: Path, typed: Run) -> None:
    Path("meetings/one.rttm").write_text(LINE.format(uri="one", start=0, length=1, who="x"))
    for path in Path("meetings").glob("two.*"):
        path.unlink()
    Path("meetings/all.uem").unlink()
    again = typed(AGAIN)
    assert again.code == 0
    said = again.out
    assert "note  another recording, reference or UEM than the baseline's: one, three" in said
    assert "note  in the baseline alone: two" in said


def damaged() -> None:
    with Path("old/full/two.rttm").open("a") as file:
        file.write(LINE.format(uri="two", start=0, length=1, who="eve"))


def renamed() -> None:
    for suffix in ("wav", "rttm"):
        Path(f"meetings/one.{suffix}").rename(f"meetings/four.{suffix}")
    Path("meetings/four.rttm").write_text(LINE.format(uri="four", start=0, length=1, who="x"))
    Path("meetings/all.uem").unlink()


def written() -> None:
    edit(Path("old/evaluation.json"), lambda x: x["systems"][0]["made_of"].update(kind="rttm"))


@pytest.mark.parametrize(
    ("change", "more", "said"),
    [
        (damaged, "", "two.rttm is not as the baseline kept it"),
        (renamed, "", "old/evaluation.json has no 'four': make a baseline of this corpus"),
        (written, "", "A of old/evaluation.json are RTTM files: name them with --against"),
        (lambda: None, "--against fast", "--against B or --baseline FILE, not both"),
        (lambda: None, "--output old", "would lie in old, which is read: choose --output"),
        (lambda: Path("old/evaluation.json").write_text("{}"), "", "is no evaluation: it lacks"),
    ],
)
def test_bad_baselines_are_one_line(
    old: Path, typed: Run, change: Callable[[], object], more: str, said: str
) -> None:
    change()
    answer = typed(f"{AGAIN} {more}")
    assert answer.code == 2
    assert said in answer.err
    assert answer.err.count("samevoice: ") == 1


def test_shards_of_a_run_against_a_baseline_are_merged(old: Path, typed: Run) -> None:
    for shard in ("1/2", "2/2"):
        assert typed(f"{AGAIN} --shard {shard}").code == 0
    merged = typed(f"{AGAIN} --merge")
    assert merged.code == 0, merged.err
    assert "since the baseline: the same bundle, versions and device" in merged.out
    assert "0 of 3 recordings moved" in merged.out
