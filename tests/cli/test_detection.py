"""samevoice diarize --task: speech or overlap in place of speakers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_pipeline import Told
from typed import Run

BAD_USAGE = {
    "--task music": "'music' is not one of 'diarization', 'voice-activity', 'overlap'",
    "--task overlap --num-speakers 2": "--num-speakers does not go with --task overlap, which",
    "--task voice-activity --max-speakers 2": "--max-speakers does not go with --task voice-acti",
    "--task voice-activity --fast": "--fast does not go with --task voice-activity",
    "--task voice-activity --exclusive": "--exclusive does not go with --task voice-activity",
    "--task voice-activity --embeddings": "--embeddings does not go with --task voice-activity",
    "--task voice-activity --speakers db": "--speakers does not go with --task voice-activity",
    "--task voice-activity --onset 1": "--onset is 1: it must lie between 0 and 1",
    "--task voice-activity --offset nan": "--offset is nan: it must lie between 0 and 1",
    "--task overlap --min-duration-off -1": "--min-duration-off is -1: it must be 0 or more",
    "--task voice-activity --plot a.svg": "--plot does not go with --task voice-activity",
    "--task overlap --output a.html": "--format html does not go with --task overlap",
    "--task overlap --scores": "--scores goes with --format json",
    "--embeddings": "--embeddings goes with --format json",
    "--task overlap --onset 0.3 --offset 0.8": "--offset must not lie above --onset",
    "--onset 0.4": "--onset needs --task voice-activity or --task overlap",
    "--scores": "--scores needs --task voice-activity or --task overlap",
    "--min-duration-off 0": "--min-duration-off needs --task voice-activity or --task overlap",
}


@pytest.mark.parametrize(("words", "said"), BAD_USAGE.items(), ids=list(BAD_USAGE))
def test_what_does_not_go_together_is_one_line(
    diarize: Run, told: type[Told], words: str, said: str
) -> None:
    answer = diarize(f"a.wav --model full {words}")
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert answer.err.count("\n") == 1
    assert told.made == []


def test_an_offset_above_the_onset_that_holds_is_one_line(
    diarize: Run, reference_bundle: Path
) -> None:
    model = reference_bundle / "segmentation"
    answer = diarize(f"a.wav --task overlap --offset 0.8 --model {model}")
    assert (answer.code, answer.out) == (2, "")
    assert "offset must not lie above onset" in answer.err


@pytest.mark.parametrize(("task", "label"), [("voice-activity", "SPEECH"), ("overlap", "OVERLAP")])
def test_regions_in_every_form(
    diarize: Run, task: str, label: str, reference_bundle: Path, tmp_path: Path
) -> None:
    import soundfile

    from samevoice.converters.reference import sample

    soundfile.write(tmp_path / "a.wav", sample()[: 12 * 16_000], 16_000)
    model = reference_bundle / "segmentation"
    words = f"a.wav --task {task} --model {model} --min-duration 0.1 --min-duration-off 0.2"
    answer = diarize(f"{words} --output out --format rttm,json,srt,vtt --scores")
    assert answer.code == 0, answer.err
    assert f"s of {'speech' if task == 'voice-activity' else 'overlap'} in " in answer.out
    found = json.loads((tmp_path / "out" / "a.json").read_text())
    assert (found["task"], found["label"]) == (task, label)
    chosen = {"onset": 0.5, "offset": 0.5, "min_duration_on": 0.1, "min_duration_off": 0.2}
    assert chosen.items() <= found["model"].items()
    assert "embedding" not in found["model"]
    rttm = (tmp_path / "out" / "a.rttm").read_text().splitlines()
    assert len(rttm) == len(found["regions"])
    assert {line.split()[7] for line in rttm} <= {label}
    subtitles = [(tmp_path / "out" / f"a.{kind}").read_text() for kind in ("srt", "vtt")]
    assert [text.count(" --> ") for text in subtitles] == [len(rttm)] * 2
    assert len(found["scores"]["values"]) > 700
    # The whole pipeline's bundle holds the same segmentation.
    again = diarize(f"{words} --output out --format rttm,json,srt,vtt --step 2")
    assert again.code == 0, again.err  # one's own results are replaced
    assert json.loads((tmp_path / "out" / "a.json").read_text())["model"]["step"] == 2
    assert "step" not in found["model"]
    diarize(f"{words} --output out --format rttm")
    whole = diarize(words.replace(str(model), str(reference_bundle)))
    assert whole.out == (tmp_path / "out" / "a.rttm").read_text()


def test_without_a_model_the_open_segmentation_is_taken(
    diarize: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from made_audio import recording

    from samevoice.converters import cached
    from samevoice.errors import SourceError

    asked = []

    def bundle_of(word: str, announce: object) -> Path:
        asked.append(word)
        raise SourceError("no network here")

    monkeypatch.setattr(cached, "bundle_of", bundle_of)
    recording(tmp_path / "a.wav")
    for words in ("", " --task overlap"):
        assert "no network here" in diarize(f"a.wav{words}").err
    assert asked == ["open:diarization", "open:segmentation"]
