"""What libmpg123 writes to standard error past Python: a note says it, and nothing else does."""

from __future__ import annotations

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
