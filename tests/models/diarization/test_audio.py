"""Every kind of recording becomes 16 kHz mono, in blocks, or one sentence that says why not."""

from __future__ import annotations

import io
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from made_audio import RATE, noise, recording, tone

from samevoice.models.diarization import decoding
from samevoice.models.diarization.audio import Audio, open_audio
from samevoice.models.diarization.decoding import AudioError
from samevoice.models.diarization.resampling import Resampler

with_ffmpeg = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed")


def heard(source: Any, size: int = 160_000, rate: int = RATE) -> np.ndarray:
    return joined(open_audio(source, rate), size)


def joined(found: Audio, size: int = 160_000) -> np.ndarray:
    blocks = list(found.blocks(size))
    assert all(block.dtype == np.float32 and block.ndim == 1 and len(block) for block in blocks)
    return np.concatenate(blocks)


def refused(source: Any) -> str:
    with pytest.raises(AudioError) as error:
        heard(source)
    said = str(error.value)
    assert "\n" not in said
    return said


# --- resampling ---------------------------------------------------------------------------------


def resampled(samples: np.ndarray, source_rate: int, cut: int) -> np.ndarray:
    resampler = Resampler(source_rate, RATE)
    parts = [resampler.feed(samples[at : at + cut]) for at in range(0, len(samples), cut)]
    return np.concatenate([*parts, resampler.end()])


@pytest.mark.parametrize(
    "rate", [1_000, 8_000, 11_025, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000, 192_000, 768_000]
)
def test_it_is_the_resampler_that_pyannote_uses(pyannote: Any, rate: int) -> None:
    import torch
    from torchaudio.functional import resample

    del pyannote
    for samples in (1, 2, 399, rate // 3 + 7):
        sound = np.asarray(10 * noise(samples))
        theirs = resample(torch.from_numpy(sound)[None], rate, RATE)[0].numpy()
        ours = resampled(sound, rate, 1_777)
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6)


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_a_tone_stays_that_tone(rate: int) -> None:
    ours, exact = resampled(tone(0.5, rate), rate, 10_000), tone(0.5)
    assert len(ours) == len(exact)
    # The filter's own ripple: six zero crossings are few. Its ends fade into silence.
    np.testing.assert_allclose(ours[200:-200], exact[200:-200], rtol=0, atol=2e-3)


@settings(max_examples=40, deadline=None)
@given(
    rate=st.sampled_from([8_000, 11_025, 15_999, 16_001, 44_100, 48_000]),
    samples=st.integers(1, 3_000),
    cut=st.integers(1, 4_000),
)
def test_cuts_change_no_bit_and_no_length(rate: int, samples: int, cut: int) -> None:
    sound = noise(samples)
    whole = resampled(sound, rate, samples)
    assert len(whole) == -(-samples * RATE // rate)
    np.testing.assert_array_equal(resampled(sound, rate, cut), whole)


# --- files --------------------------------------------------------------------------------------

SUBTYPES = {
    "PCM_U8": 1 / 128,
    "PCM_16": 1 / 32_768,
    "PCM_24": 2**-23,
    "PCM_32": 1e-7,
    "FLOAT": 0.0,
    "DOUBLE": 0.0,
}


@pytest.mark.parametrize(("subtype", "step"), SUBTYPES.items())
def test_every_wav_of_integers_and_floats(tmp_path: Path, subtype: str, step: float) -> None:
    sound = noise(5_000)
    path = recording(tmp_path / "a.wav", sound, subtype=subtype)
    np.testing.assert_allclose(heard(path), sound, rtol=0, atol=step)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.flac", {"format": "FLAC"}),
        ("a.ogg", {"format": "OGG", "subtype": "VORBIS"}),
        ("a.opus", {"format": "OGG", "subtype": "OPUS"}),
        ("a.mp3", {"format": "MP3"}),
        ("a.aiff", {"format": "AIFF"}),
        ("named-wrongly.wav", {"format": "FLAC"}),
        ("no-suffix", {"format": "FLAC"}),
        ("a.raw", {"format": "WAV"}),
    ],
)
def test_formats_are_told_apart_by_what_is_inside(
    tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    sound = tone(2.0)
    found = open_audio(recording(tmp_path / name, sound, **options))
    assert found.notes == []
    assert found.duration == pytest.approx(2.0, abs=0.1)
    got = joined(found)
    assert abs(len(got) - len(sound)) < 100
    size = min(len(got), len(sound))
    assert np.corrcoef(got[:size], sound[:size])[0, 1] > 0.99


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000, 192_000])
def test_channels_and_rates_are_heard_as_pyannote_hears_them(
    tmp_path: Path, pyannote: Any, channels: int, rate: int
) -> None:
    import torch
    from pyannote.audio import Audio as Theirs

    del pyannote
    sound = noise(rate // 4 + 1, channels)
    path = recording(tmp_path / "a.wav", sound, rate, subtype="FLOAT")
    waveform = torch.from_numpy(np.ascontiguousarray(sound.T))
    theirs, _ = Theirs(RATE, mono="downmix")({"waveform": waveform, "sample_rate": rate})
    np.testing.assert_allclose(heard(path, 1_000), theirs[0].numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("samples", [1, 399, 400, 159_999, 160_000, 160_001])
def test_no_sample_is_lost_at_any_length(tmp_path: Path, samples: int) -> None:
    sound = noise(samples)
    path = recording(tmp_path / "a.wav", sound, subtype="FLOAT")
    np.testing.assert_array_equal(heard(path), sound)


@pytest.mark.parametrize("value", [0.0, 0.25, 1.0, -1.0])
def test_silence_dc_and_clipping_pass(tmp_path: Path, value: float) -> None:
    sound = np.full(1_000, value, np.float32)
    path = recording(tmp_path / "a.wav", sound, subtype="FLOAT")
    np.testing.assert_array_equal(heard(path), sound)


def test_it_is_read_in_blocks_and_again(tmp_path: Path) -> None:
    sound = noise(50_000)
    found = open_audio(recording(tmp_path / "a.wav", sound, subtype="FLOAT"))
    assert [len(block) for block in found.blocks(16_000)] == [16_000, 16_000, 16_000, 2_000]
    blocks = found.blocks(100)
    assert len(next(blocks)) == 100
    blocks.close()
    np.testing.assert_array_equal(joined(found), sound)


@pytest.mark.parametrize(
    "name", ["two words.wav", "Ünïcødé 会議 🎙.wav", "-.wav", "a:b,c.wav", "..wav"]
)
def test_any_file_name_will_do(tmp_path: Path, name: str) -> None:
    path = recording(tmp_path / name, noise(100), format="WAV")
    found = open_audio(path)
    assert found.uri == path.stem
    assert len(joined(found)) == 100
    assert len(heard(str(path))) == 100


def test_a_flac_that_does_not_know_its_length(tmp_path: Path) -> None:
    path = recording(tmp_path / "a.flac", noise(20_000))
    data = bytearray(path.read_bytes())
    assert data[:4] == b"fLaC"
    # STREAMINFO: the low 4 bits of byte 21, then 4 bytes: the number of samples, 0 for unknown.
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    path.write_bytes(data)
    found = open_audio(path)
    assert found.duration is None
    assert len(joined(found)) == 20_000


# --- what is no recording -----------------------------------------------------------------------


def test_what_is_not_there_or_no_file(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.wav") == f"{tmp_path / 'none.wav'}: no such file"
    assert "is a folder" in refused(tmp_path)
    assert "no ordinary file" in refused("/dev/null")
    (tmp_path / "empty.wav").touch()
    assert "is empty (0 bytes)" in refused(tmp_path / "empty.wav")
    assert "cannot be read" in refused("a\0b.wav")
    assert "is no recording" in refused(7)
    assert '"audio"' in refused({})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = recording(tmp_path / "a.wav")
    path.chmod(0)
    assert "Permission denied" in refused(path)


def test_a_header_without_samples(tmp_path: Path) -> None:
    path = recording(tmp_path / "none.wav", noise(0))
    assert refused(path) == f"{path} holds no samples: is the recording complete?"


@pytest.mark.parametrize("ffmpeg", [True, False])
def test_a_text_file_named_wav(
    tmp_path: Path, ffmpeg: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not ffmpeg:
        monkeypatch.setattr(shutil, "which", lambda name: None)
    elif not shutil.which("ffmpeg"):
        pytest.skip("ffmpeg is not installed")
    path = tmp_path / "text.wav"
    path.write_text("this is no sound\n" * 50)
    said = refused(path)
    assert said.startswith(f"{path} cannot be read")
    assert "format not recognised" in said
    assert ("install ffmpeg for M4A" in said) is not ffmpeg


def wav(tmp_path: Path, change: Callable[[bytearray, int], Any], name: str = "odd.wav") -> Path:
    """A second of 16 bits whose header was changed; ``change`` gets the place of ``data``."""
    path = recording(tmp_path / name, noise(RATE), subtype="PCM_16")
    data = bytearray(path.read_bytes())
    change(data, data.index(b"data"))
    path.write_bytes(data)
    return path


def size_of(claimed: int) -> Callable[[bytearray, int], None]:
    def change(data: bytearray, at: int) -> None:
        data[at + 4 : at + 8] = struct.pack("<I", claimed)

    return change


def test_a_header_that_claims_too_much(tmp_path: Path) -> None:
    path = wav(tmp_path, size_of(320_000))
    found = open_audio(path)
    assert len(joined(found)) == RATE
    assert found.notes == [f"{path} claims 10.000 s and holds 1.000 s"]
    assert len(joined(found)) == RATE
    assert len(found.notes) == 1


def test_a_file_that_was_cut_off(tmp_path: Path) -> None:
    path = recording(tmp_path / "a.wav", noise(RATE), subtype="PCM_16")
    path.write_bytes(path.read_bytes()[: 44 + RATE + 1])
    found = open_audio(path)
    assert abs(len(joined(found)) - RATE // 2) < 16
    assert "claims 1.000 s and holds 0.49" in found.notes[0] or "holds 0.5" in found.notes[0]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.aiff", {}),
        ("a.aiff", {"subtype": "FLOAT"}),
        ("a.au", {"subtype": "ULAW"}),
        ("a.w64", {}),
        ("a.rf64", {}),
        ("a.svx", {"subtype": "PCM_16"}),
        pytest.param("a.caf", {}, marks=with_ffmpeg),
        pytest.param("a.caf", {"subtype": "FLOAT"}, marks=with_ffmpeg),
    ],
)
def test_whatever_the_container_a_recording_cut_off_says_so(
    tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    path = recording(tmp_path / name, noise(10 * RATE), **options)
    whole = open_audio(path)
    assert len(joined(whole)) == 10 * RATE
    assert whole.notes == []
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2 // 4 * 4])
    found = open_audio(path)
    seconds = len(joined(found)) / RATE
    assert 4.7 < seconds < 5.0
    said = re.fullmatch(rf"{path} claims (.+) s and holds {seconds:.3f} s", found.notes[0])
    assert said
    assert float(said[1]) == pytest.approx(10, abs=0.02)


def test_a_header_written_without_going_back_claims_nothing(tmp_path: Path) -> None:
    found = open_audio(wav(tmp_path, size_of(0xFFFF_FFFF)))
    assert len(joined(found)) == RATE
    assert found.notes == []


@with_ffmpeg
def test_a_header_that_claims_nothing_is_no_reason_to_give_up(tmp_path: Path) -> None:
    assert len(heard(wav(tmp_path, size_of(0)))) == RATE


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (22, struct.pack("<H", 0), "cannot be read"),
        (24, struct.pack("<I", 0), "cannot be read"),
        (24, struct.pack("<I", 999), "claims 999 samples a second: it must be 1000 to 768000"),
        (24, struct.pack("<I", 1_000_000), "claims 1000000 samples a second"),
        (20, struct.pack("<H", 0x7777), "cannot be read"),
    ],
    ids=["no channels", "no rate", "a low rate", "a high rate", "an unknown coding"],
)
def test_headers_that_make_no_sense(tmp_path: Path, place: int, value: bytes, said: str) -> None:
    def change(data: bytearray, at: int) -> None:
        del at
        data[place : place + len(value)] = value

    path = wav(tmp_path, change)
    assert said in refused(path)
    assert str(path) in refused(path)


def test_a_damaged_flac_is_heard_up_to_the_damage(tmp_path: Path) -> None:
    sound = noise(100_000)
    path = recording(tmp_path / "a.flac", sound)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    found = open_audio(path)
    got = joined(found)
    assert 40_000 < len(got) < 50_000
    np.testing.assert_allclose(got, sound[: len(got)], rtol=0, atol=1e-4)
    assert f"is damaged after {len(got) / RATE:.3f} s" in found.notes[0]
    assert len(joined(found, 777)) == len(got)


@pytest.mark.parametrize(
    ("value", "said"),
    [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity"), (-1e38, r"-1e\+38")],
)
@pytest.mark.filterwarnings("error")
def test_what_is_no_sound_is_refused_with_its_time(tmp_path: Path, value: float, said: str) -> None:
    sound = noise(40_000, 2)
    sound[24_000, 1] = value
    path = recording(tmp_path / "a.wav", sound, 8_000, subtype="FLOAT")
    for source in (path, {"waveform": sound.T, "sample_rate": 8_000}):
        with pytest.raises(AudioError, match=f"holds {said} at 3.000 s"):
            list(open_audio(source).blocks(1_000))


@pytest.mark.filterwarnings("error")
def test_numbers_too_large_for_float32_are_refused() -> None:
    sound = np.full(100, 1e300)
    assert "holds infinity at 0.000 s" in refused({"waveform": sound, "sample_rate": RATE})


# --- ffmpeg -------------------------------------------------------------------------------------


@pytest.fixture
def film(tmp_path: Path) -> Callable[..., Path]:
    """A recording as ffmpeg writes it."""

    def made(name: str, *options: str, seconds: float = 2.0) -> Path:
        source = recording(tmp_path / "source.wav", tone(seconds))
        quiet = ("ffmpeg", "-nostdin", "-v", "error", "-y", "-i", str(source))
        subprocess.run([*quiet, *options, str(tmp_path / name)], check=True)
        source.unlink()
        return tmp_path / name

    return made


@with_ffmpeg
@pytest.mark.parametrize("name", ["a b.m4a", "a.aac", "a.webm", "a.mkv", "-i.m4a"])
def test_what_libsndfile_does_not_know_goes_through_ffmpeg(
    film: Callable[..., Path], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    film("made.m4a" if name.startswith("-") else name)
    if name.startswith("-"):
        (tmp_path / "made.m4a").rename(tmp_path / name)
    found = open_audio(name)
    assert found.uri == Path(name).stem
    got = joined(found, 1_000)
    assert abs(len(got) - 2 * RATE) < 3_000
    assert 0.3 < np.abs(got).max() < 0.7
    np.testing.assert_array_equal(joined(found), got)


@with_ffmpeg
def test_ffmpeg_gives_every_channel_and_the_rate(film: Callable[..., Path]) -> None:
    path = film("a.mka", "-af", "pan=5.1|c3=c0", "-ar", "48000", "-c:a", "pcm_f32le")
    got = heard(path)
    # One channel of six: their mean, not ffmpeg's own mixture.
    assert np.abs(got).max() == pytest.approx(0.5 / 6, rel=0.02)
    assert len(got) == 2 * RATE


@with_ffmpeg
def test_a_film_without_sound(film: Callable[..., Path]) -> None:
    picture = ("-f", "lavfi", "-i", "color=black:s=16x16:d=1", "-map", "1:v")
    assert "it holds no sound" in refused(film("a.mkv", *picture))


@with_ffmpeg
def test_a_film_that_was_cut_off(film: Callable[..., Path]) -> None:
    path = film("a.m4a")
    path.write_bytes(path.read_bytes()[:2_000])
    assert str(path) in refused(path)


@with_ffmpeg
@pytest.mark.parametrize("name", ["a.wav", "a.m3u8", "a.ffconcat", "a.m4a"])
@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{other}\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{other}\n",  # more is to come
        "ffconcat version 1.0\nfile {other}\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
    ],
    ids=["hls", "hls without an end", "concat", "sdp"],
)
def test_no_playlist_makes_it_read_another_file(
    film: Callable[..., Path], tmp_path: Path, name: str, text: str
) -> None:
    secret = film("secret.ts")
    for other in (secret, secret.name):
        path = tmp_path / name
        path.write_text(text.format(other=other))
        said = refused(path)
        assert said.startswith(f"{path} cannot be read: it is a playlist, or of a format")
        assert len(said) < 300


def boxed(kind: bytes, *inside: bytes) -> bytes:
    body = b"".join(inside)
    return struct.pack(">I", 8 + len(body)) + kind + body


def with_reference(data: bytes, other: Path) -> bytes:
    """A QuickTime film whose sound lies in another file."""
    made, at = b"", 0
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + size]
        if kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
            body = with_reference(body, other)
        elif kind == b"dref":
            path, name = bytes(other), other.name.encode()
            alias = bytes(10) + b"\3" + b"Vol".ljust(27, b"\0") + bytes(12)
            alias += bytes([len(name)]) + name.ljust(63, b"\0") + bytes(16)
            alias += struct.pack(">HH", 1, 1) + bytes(16)
            alias += struct.pack(">HH", 2, len(path)) + path + bytes(len(path) % 2)
            alias += struct.pack(">hH", -1, 0)
            body = bytes(4) + struct.pack(">I", 1) + boxed(b"alis", bytes(4), alias)
        made += boxed(kind, body)
        at += size
    return made


@with_ffmpeg
def test_no_film_makes_it_read_another_file(film: Callable[..., Path], tmp_path: Path) -> None:
    path, other = film("a.mov", "-c:a", "pcm_s16le"), tmp_path / "other.raw"
    data = path.read_bytes()
    other.write_bytes(b"\x11\x22" * len(data))
    path.write_bytes(with_reference(data, other))
    follow = ("ffmpeg", "-v", "quiet", "-enable_drefs", "1", "-use_absolute_path", "1", "-i")
    told_to = subprocess.run(
        [*follow, path, "-f", "s16le", "-"], stdout=subprocess.PIPE, check=True
    )
    assert told_to.stdout[:4] == b"\x11\x22\x11\x22"
    assert "holds no samples" in refused(path)


@with_ffmpeg
def test_a_note_is_the_same_in_every_run(film: Callable[..., Path]) -> None:
    path = film("a.m4a", "-movflags", "faststart")
    path.write_bytes(path.read_bytes()[:-5_000])
    found = open_audio(path)
    joined(found)
    (note,) = found.notes
    assert note.startswith(f"{path} is damaged, says ffmpeg: ")
    assert " @ 0x" not in note
    assert "/dev/fd" not in note


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """A program in ffmpeg's place."""
    program = folder / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    path = folder / "a.m4a"
    path.write_bytes(b"\0\0\0\x18ftypM4A " + bytes(500))
    return path


HEADER = r"printf '.snd\0\0\0\030\377\377\377\377\0\0\0\006\0\0\076\200\0\0\0\001'"


@pytest.mark.parametrize("script", ["exec sleep 60", f"{HEADER}; exec sleep 60"])
def test_an_ffmpeg_that_gives_nothing_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    path = stand_in(tmp_path, monkeypatch, f"echo $$ > {tmp_path}/pid; {script}")
    monkeypatch.setattr(decoding, "PATIENCE", 0.5)
    assert refused(path) == f"{path}: ffmpeg gave nothing for 0.5 s"
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@with_ffmpeg
def test_an_ffmpeg_whose_reader_was_killed_ends(film: Callable[..., Path]) -> None:
    path = film("a.mka", "-c:a", "pcm_f32le", seconds=60.0)
    reader = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time\n"
            "from samevoice.models.diarization.audio import open_audio\n"
            "blocks = open_audio(sys.argv[1]).blocks(100)\n"
            "next(blocks)\n"
            "print('reading', flush=True)\n"
            "time.sleep(60)",
            path,
        ],
        stdout=subprocess.PIPE,
    )
    with reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"reading\n"
        children = Path(f"/proc/{reader.pid}/task/{reader.pid}/children").read_text().split()
        assert children
        reader.kill()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline, "ffmpeg is still running"
        time.sleep(0.02)


@with_ffmpeg
def test_no_ffmpeg_is_left_behind(
    film: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    popen = subprocess.Popen

    def kept(*words: Any, **options: Any) -> Any:
        started.append(popen(*words, **options))
        return started[-1]

    found = open_audio(film("a.mka", "-c:a", "pcm_f32le", seconds=60.0))
    monkeypatch.setattr(subprocess, "Popen", kept)
    blocks = found.blocks(100)
    next(blocks)
    assert started[0].poll() is None
    blocks.close()
    assert started[0].returncode is not None


def test_without_ffmpeg_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    path = tmp_path / "a.m4a"
    path.write_bytes(b"\0\0\0\x18ftypM4A " + bytes(500))
    assert "install ffmpeg for M4A, AAC, WebM and video" in refused(path)


# --- file objects and pipes ---------------------------------------------------------------------


def test_a_file_object_is_read_whole_and_left_where_it_stood(tmp_path: Path) -> None:
    path = recording(tmp_path / "a.wav", noise(RATE))
    for source in (open(path, "rb"), io.BytesIO(path.read_bytes())):  # noqa: SIM115
        with source:
            source.seek(100)
            found = open_audio(source)
            assert found.uri == "stream"
            assert source.tell() == 100
            np.testing.assert_array_equal(joined(found), heard(path))
        np.testing.assert_array_equal(joined(found), heard(path))
    named = open_audio({"audio": io.BytesIO(path.read_bytes()), "uri": "mine"})
    assert (named.uri, len(joined(named))) == ("mine", RATE)


@pytest.mark.parametrize("name", ["a.wav", pytest.param("a.m4a", marks=with_ffmpeg)])
def test_what_is_kept_of_a_file_object_has_no_name(
    film: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A process that is killed leaves nothing behind."""
    data = io.BytesIO(film(name).read_bytes())
    kept = tmp_path / "kept"
    kept.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(kept))
    found = open_audio(data)
    assert list(kept.iterdir()) == []
    assert abs(len(joined(found)) - 2 * RATE) < 3_000
    np.testing.assert_array_equal(joined(found), joined(found))


def test_odd_file_objects() -> None:
    assert "is empty" in refused(io.BytesIO())
    assert "gives text" in refused(io.StringIO("text"))


def test_a_pipe_is_read_once_and_kept(tmp_path: Path) -> None:
    data = recording(tmp_path / "a.wav", noise(RATE)).read_bytes()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    found = open_audio(pipe)
    writer.join()
    assert len(joined(found)) == len(joined(found)) == RATE


def test_a_pipe_into_which_nobody_writes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "PATIENCE", 0.2)
    pipe = tmp_path / "pipe.wav"
    os.mkfifo(pipe)
    assert refused(pipe) == f"{pipe} is a pipe, and gave nothing for 0.2 s"
    with open(os.open(pipe, os.O_RDWR), "wb") as silent:
        assert refused(pipe) == f"{pipe} is a pipe, and gave nothing for 0.2 s"
        silent.write(b"RIFF")
        silent.flush()
        assert refused(pipe) == f"{pipe} is a pipe, and gave nothing for 0.2 s"


def test_a_link_to_a_device_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").symlink_to("/dev/zero")
    assert "no ordinary file" in refused(tmp_path / "a.wav")


# --- waveforms ----------------------------------------------------------------------------------


def test_waveforms_of_every_library(pyannote: Any) -> None:
    import torch

    del pyannote
    sound = noise(1_000, 2).T
    expected = sound.mean(axis=0, dtype=np.float32)
    tensor = torch.from_numpy(sound.copy()).requires_grad_()
    for given_ in (sound, mx.array(sound), tensor, sound.astype(np.float64), sound.tolist()):
        got = heard({"waveform": given_, "sample_rate": RATE})
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-7)
    np.testing.assert_array_equal(heard({"waveform": sound[0], "sample_rate": RATE}), sound[0])


def test_what_stands_in_a_mapping(tmp_path: Path) -> None:
    sound = noise(1_000, 2).T
    whole = {"waveform": sound, "sample_rate": RATE}
    found = open_audio(whole)
    assert (found.uri, found.duration) == ("waveform", 1_000 / RATE)
    assert open_audio(whole | {"uri": "mine"}).uri == "mine"
    np.testing.assert_array_equal(heard(whole | {"channel": 1}), sound[1])
    path = recording(tmp_path / "talk.wav", sound.T, subtype="FLOAT")
    assert open_audio({"audio": path}).uri == "talk"
    np.testing.assert_array_equal(heard({"audio": str(path), "channel": 0}), sound[0])
    assert heard(whole | {"sample_rate": 8_000.0}).shape == (2_000,)
    assert list(whole) == ["waveform", "sample_rate"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"waveform": np.zeros((0, 0), np.float32)}, "(0, 0)"),
        ({"waveform": np.zeros((1, 0), np.float32)}, "holds no samples"),
        ({"waveform": np.zeros((100, 2), np.float32)}, "is (100, 2): give (channels, samples)"),
        ({"waveform": np.zeros((1, 2, 3), np.float32)}, "is (1, 2, 3)"),
        ({"waveform": np.float32(1)}, "is ()"),
        ({"waveform": np.zeros((1, 9), np.int16)}, "is int16: give floats"),
        ({"waveform": "sound"}, "give floats"),
        ({"waveform": [[1.0], [1.0, 2.0]]}, "no array of numbers"),
        ({"sample_rate": None}, 'needs its "sample_rate"'),
        ({"sample_rate": 0}, "0 samples a second"),
        ({"sample_rate": "fast"}, "give a whole number"),
        ({"sample_rate": 44_100.5}, "give a whole number"),
        ({"sample_rate": float("inf")}, "give a whole number"),
        ({"channel": 2}, "has no channel 2: it has 2"),
        ({"channel": "left"}, "counted from 0"),
    ],
    ids=str,
)
def test_waveforms_that_are_none(change: dict[str, Any], said: str) -> None:
    source = {"waveform": np.zeros((2, 100), np.float32), "sample_rate": RATE}
    assert said in refused(source | change)


def test_memory_does_not_grow_with_the_recording(tmp_path: Path) -> None:
    """A file of two minutes is never in memory as one: the largest array is a block."""
    import tracemalloc

    path = tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", 44_100, 2) as file:
        for second in range(120):
            file.write(noise(44_100, 2, seed=second % 3))
    found = open_audio(path)
    tracemalloc.start()
    total = sum(len(block) for block in found.blocks(44_100))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 120 * RATE
    assert peak < 10e6  # all of it is 42 MB
