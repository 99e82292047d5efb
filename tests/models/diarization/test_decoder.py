"""What libmpg123 writes to standard error past Python: a note says it, and nothing else does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from made_audio import noise, recording

from samevoice.models.diarization.audio import open_audio


def test_what_a_decoder_has_against_an_mp3_is_a_note(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = recording(tmp_path / "a.mp3", noise(32_000), format="MP3")
    whole = path.read_bytes()
    path.write_bytes(whole[:2000] + bytes(600) + whole[2600:] + whole)
    found = open_audio(path)
    list(found.blocks())
    assert capfd.readouterr().err == ""
    (note,) = found.notes
    assert note.startswith(f"{path}: its decoder says: ")
    assert "\n" not in note
    assert "libmpg123" not in note  # a place in somebody's C code


def test_a_good_mp3_has_no_note(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = open_audio(recording(tmp_path / "a.mp3", noise(32_000), format="MP3"))
    list(found.blocks())
    assert (found.notes, capfd.readouterr().err) == ([], "")


@pytest.mark.parametrize("part", [0.6, 0.9, 0.99])
@pytest.mark.parametrize("codec", ["VORBIS", "OPUS"])
def test_an_ogg_that_was_cut_off_says_so(tmp_path: Path, codec: str, part: float) -> None:
    """It claims no length; but its last page says that it is the last."""
    path = recording(tmp_path / "a.ogg", noise(160_000), format="OGG", subtype=codec)
    whole = open_audio(path)
    list(whole.blocks())
    assert whole.notes == []
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    cut = open_audio(path)
    seconds = sum(map(len, cut.blocks())) / 16_000
    assert cut.notes == [f"{path} was cut off after {seconds:.3f} s: its last page is missing"]
    path.write_bytes(data + b"TAG of whoever")
    more = open_audio(path)
    list(more.blocks())
    assert more.notes == []


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_an_mp3_of_which_next_to_nothing_is_left(tmp_path: Path) -> None:
    """Too little for libsndfile; ffmpeg makes a few samples of it, and has nothing against it."""
    path = recording(tmp_path / "a.mp3", noise(32_000), format="MP3")
    path.write_bytes(path.read_bytes()[:690])
    found = open_audio(path)
    held = sum(map(len, found.blocks()))
    assert 0 < held < 1000
    assert len(found.notes) == 1
    assert f"and holds {held / 16_000:.3f} s" in found.notes[0]
