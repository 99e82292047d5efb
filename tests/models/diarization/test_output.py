"""What a result is and how it is written: as pyannote.core does, and so that others can read it."""

from __future__ import annotations

import builtins
import json
import os
import random
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_audio import RATE, tone

from samevoice.errors import MissingExtraError
from samevoice.models.diarization.drawing import draw, envelope
from samevoice.models.diarization.formats import RttmError, field
from samevoice.models.diarization.output import Diarization, Segment, Turns, read_rttm

A, B = "SPEAKER_00", "SPEAKER_01"


def turns(*spans: tuple[float, float, str], uri: str = "talk") -> Turns:
    return Turns(tuple((Segment(start, end), who) for start, end, who in spans), uri)


@pytest.fixture
def result() -> Diarization:
    return Diarization(
        "talk",
        turns((0.5, 2.0, A), (1.5, 4.0, B), (5.0, 5.2, A)),
        turns((0.5, 1.75, A), (1.75, 4.0, B), (5.0, 5.2, A)),
        np.array([[1.0, 0.0], [0.0, 2.0]]),
        10.0,
        {"reading": 0.25, "embeddings": 0.75},
        ("a note",),
    )


# --- turns --------------------------------------------------------------------------------------


def test_turns_are_a_sequence_in_order_of_time() -> None:
    found = turns((3.0, 4.0, B), (1.0, 2.0, B), (1.0, 1.5, A))
    assert [(turn.start, turn.end, who) for turn, who in found] == [
        (1.0, 1.5, A),
        (1.0, 2.0, B),
        (3.0, 4.0, B),
    ]
    assert len(found) == 3
    assert found[0] == (Segment(1.0, 1.5), A)
    assert found[-1][0].duration == 1.0
    assert len(found[1:]) == 2
    assert found.labels() == [A, B]
    assert found.seconds(B) == 2.0
    assert found == turns((1.0, 1.5, A), (1.0, 2.0, B), (3.0, 4.0, B))
    assert not Turns()


def test_equal_segments_stay_as_given_and_empty_ones_go() -> None:
    found = turns((1.0, 2.0, B), (1.0, 2.0, A), (3.0, 3.0, A), (3.0, 3.0000005, A), (5.0, 4.0, A))
    assert [who for _, who in found] == [B, A]


def test_short_turns_are_left_out_by_the_printed_millisecond() -> None:
    found = turns((0.0, 0.2999999, A), (1.0, 1.3, A), (2.0, 2.299, B))
    assert len(found.at_least(0.3)) == 2
    assert found.at_least(0.0) == found


def test_a_stretch_is_cut_out() -> None:
    found = turns((0.0, 2.0, A), (1.0, 3.0, B), (4.0, 5.0, A)).crop(1.5, 4.0)
    assert found == turns((1.5, 2.0, A), (1.5, 3.0, B))


# --- pyannote.core ------------------------------------------------------------------------------


def random_spans(seed: int) -> list[tuple[float, float, str]]:
    """On a grid so coarse that starts, ends and whole segments are often equal."""
    rng = random.Random(seed)
    starts = [rng.randrange(12) / 8 for _ in range(rng.randrange(60))]
    return [
        (start, start + rng.randrange(6) * 0.3331, f"SPEAKER_{rng.randrange(13):02d}")
        for start in starts
    ]


@pytest.mark.parametrize("seed", range(20))
def test_the_rttm_is_that_of_pyannote_core(seed: int) -> None:
    core: Any = pytest.importorskip("pyannote.core")
    annotation = core.Annotation(uri="talk")
    for number, (start, end, who) in enumerate(random_spans(seed)):
        annotation[core.Segment(start, end), number % 30] = who
    ours = Turns.from_annotation(annotation)
    assert ours.uri == "talk"
    assert ours.to_rttm() == annotation.to_rttm()
    assert ours.to_annotation().to_rttm() == annotation.to_rttm()
    assert Turns.from_annotation(ours.to_annotation()) == ours
    assert ours.labels() == annotation.labels()
    for who in ours.labels():
        assert ours.seconds(who) == pytest.approx(sum(t.duration for t, w in ours if w == who))


def test_turns_of_one_place_and_speaker_keep_their_own_tracks() -> None:
    pytest.importorskip("pyannote.core")
    found = turns((0.0, 1.0, A), (0.0, 1.0, B), (0.0, 1.0, A))
    assert len(Turns.from_annotation(found.to_annotation())) == 3


def test_nothing_is_an_annotation_too() -> None:
    pytest.importorskip("pyannote.core")
    assert Turns().to_annotation().uri is None
    assert Turns.from_annotation(Turns((), "a b").to_annotation()) == Turns((), "a b")


def test_without_pyannote_core_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("pyannote"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"pip install 'samevoice\[parity\]'"):
        Turns().to_annotation()


# --- RTTM ---------------------------------------------------------------------------------------


def test_rttm_by_hand() -> None:
    assert turns((6.73046875, 6.74734375, A)).to_rttm() == (
        "SPEAKER talk 1 6.730 0.017 <NA> <NA> SPEAKER_00 <NA> <NA>\n"
    )
    assert turns((0.0, 1.0, A), uri="").to_rttm().startswith("SPEAKER <NA> 1 0.000 1.000 ")
    assert Turns().to_rttm() == ""


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("two words", "two_words"),
        ("tab\tline\nfeed\x1b", "tab_line_feed_"),
        ("no\u00a0break\u3000wide\u2028", "no_break_wide_"),
        ('"quoted"', "_quoted_"),
        ("Ünïcødé-会議-🎙", "Ünïcødé-会議-🎙"),
        ("Zoe\u0308", "Zo\u00eb"),  # as macOS writes it into the names of files
        ("\udcff.wav", "_.wav"),
        ("None", "None_"),
        ("NA", "NA_"),
        ("", "_"),
    ],
)
def test_names_that_rttm_cannot_hold(name: str, written: str) -> None:
    assert field(name) == written
    written.encode()


def test_speakers_stay_apart_when_their_names_change() -> None:
    found = turns((0.0, 1.0, "a b"), (1.0, 2.0, "a_b"), (2.0, 3.0, "a\tb"))
    assert [line.split()[7] for line in found.to_rttm().splitlines()] == ["a_b__", "a_b", "a_b_"]


NAMES = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["None", "nan", "a b", '"', "'", ";;", "#", "\udc80", "SPEAKER", "<NA>", "1"]),
)
SPANS = st.lists(
    st.tuples(st.integers(0, 10**7), st.integers(1, 10**6), NAMES).map(
        lambda t: (t[0] / 1000, (t[0] + t[1]) / 1000, t[2])
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(spans=SPANS, uri=NAMES)
def test_rttm_comes_back(
    spans: list[tuple[float, float, str]], uri: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    found = turns(*spans, uri=uri)
    path = tmp_path_factory.getbasetemp() / "round.rttm"
    path.write_text(found.to_rttm(), encoding="utf-8", newline="")
    back = read_rttm(path)
    if not spans:
        assert back == {}
        return
    (same,) = back.values()
    assert same.uri == (field(uri) if uri else "")
    assert len(same.labels()) == len(found.labels())
    assert len(same) == len(found)
    assert same.to_rttm() == found.to_rttm()
    for (ours, _), (theirs, _) in zip(found, same, strict=True):
        assert ours.start == pytest.approx(theirs.start, abs=1e-9)
        assert ours.end == pytest.approx(theirs.end, abs=1e-6)


@pytest.mark.parametrize(
    "uri", ["two words", "Ünïcødé 会議 🎙", "None", '"a', "tab\there", "nan", "a;b#c", "001"]
)
def test_pyannote_reads_what_it_refuses_to_write(uri: str, tmp_path: Path) -> None:
    util: Any = pytest.importorskip("pyannote.database.util")
    found = turns((0.0, 1.0, A), (0.5, 2.25, "Anna Maria"), (3.0, 4.0, "NA"), uri=uri)
    path = tmp_path / "a.rttm"
    path.write_text(found.to_rttm(), encoding="utf-8")
    (theirs,) = util.load_rttm(path).values()
    assert theirs.to_rttm() == found.to_rttm()
    assert theirs.labels() == sorted([A, "Anna_Maria", "NA_"])


def test_what_else_an_rttm_holds(tmp_path: Path) -> None:
    path = tmp_path / "a.rttm"
    path.write_text(
        ";; made by hand\n"
        "SPKR-INFO one 1 <NA> <NA> <NA> unknown a <NA>\n\n"
        "SPEAKER one 1 1.5 0.5 <NA> <NA> a <NA>\r\n"
        "SPEAKER\tone  1 0.25 1e0 <NA> <NA> b <NA> <NA>\n"
        "SPEAKER two 1 0 0.0 <NA> <NA> b <NA> <NA>",
        encoding="utf-8-sig",
    )
    assert read_rttm(path) == {
        "one": turns((0.25, 1.25, "b"), (1.5, 2.0, "a"), uri="one"),
        "two": Turns((), "two"),
    }


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("SPEAKER one 1 0.0 1.0 <NA> <NA>", "line 2: 7 fields, but SPEAKER needs 8"),
        ("SPEAKER one 1 zero 1.0 <NA> <NA> a <NA>", "line 2: 'zero' is no time in seconds"),
        ("SPEAKER one 1 0 -1 <NA> <NA> a <NA>", "line 2: '-1' is no time"),
        ("SPEAKER one 1 nan 1 <NA> <NA> a <NA>", "line 2: 'nan' is no time"),
        ("1,2,3", "line 2: '1,2,3' begins no RTTM line: is the file RTTM?"),
        (b"\xff\xfe", "is no UTF-8 text"),
        (None, "cannot be read: No such file"),
    ],
)
def test_what_is_no_rttm(tmp_path: Path, line: Any, said: str) -> None:
    path = tmp_path / "a.rttm"
    if line is not None:
        path.write_bytes(b"\n" + (line if isinstance(line, bytes) else line.encode()))
    with pytest.raises(RttmError) as error:
        read_rttm(path)
    assert said in str(error.value)
    assert str(path) in str(error.value)


def test_a_pipe_is_no_rttm(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.rttm")
    with pytest.raises(RttmError, match="is not an ordinary file"):
        read_rttm(tmp_path / "a.rttm")


@settings(max_examples=200, deadline=None)
@given(data=st.one_of(st.binary(max_size=80), st.text(max_size=80).map(lambda t: t.encode())))
def test_no_bytes_make_the_reader_fail_otherwise(
    data: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.rttm"
    path.write_bytes(b"SPEAKER " + data)
    with suppress(RttmError):
        read_rttm(path)


# --- subtitles ----------------------------------------------------------------------------------


def test_subtitles_by_hand() -> None:
    found = turns((0.9996, 60.9996, A), (3599.9999, 3_600 * 100 + 0.5, B))
    assert found.to_srt() == (
        "1\n00:00:01,000 --> 00:01:01,000\nSPEAKER_00\n\n"
        "2\n01:00:00,000 --> 100:00:00,500\nSPEAKER_01\n"
    )
    assert found.to_vtt() == (
        "WEBVTT\n\n1\n00:00:01.000 --> 00:01:01.000\n<v SPEAKER_00>SPEAKER_00\n"
        "\n2\n01:00:00.000 --> 100:00:00.500\n<v SPEAKER_01>SPEAKER_01\n"
    )
    assert Turns().to_srt() == ""
    assert Turns().to_vtt() == "WEBVTT\n"


def test_names_cannot_break_subtitles() -> None:
    found = turns((0.0, 1.0, "<b>&\n\n00:00 --> 00:01"), (1.0, 1.0001, "\n"))
    assert found.to_vtt().splitlines()[4] == (
        "<v &lt;b&gt;&amp; 00:00 --&gt; 00:01>&lt;b&gt;&amp; 00:00 --&gt; 00:01"
    )
    assert found.to_srt().splitlines()[2] == "<b>& 00:00 -> 00:01"
    assert found.to_srt().splitlines()[5:] == ["00:00:01,000 --> 00:00:01,001", "_"]


@settings(max_examples=200, deadline=None)
@given(spans=st.lists(st.tuples(st.floats(0, 1e6), st.floats(1e-5, 1e5), NAMES), max_size=5))
def test_every_subtitle_is_well_formed(spans: list[tuple[float, float, str]]) -> None:
    found = turns(*((start, start + length, who) for start, length, who in spans))
    cue = r"\d+\n\d{2,}:[0-5]\d:[0-5]\d%s\d{3} --> \d{2,}:[0-5]\d:[0-5]\d%s\d{3}\n[^\n]+\n"
    assert len(re.findall(cue % (",", ","), found.to_srt())) == len(found)
    assert found.to_srt().count("\n") == max(0, 4 * len(found) - 1)
    assert re.fullmatch(r"WEBVTT\n(\n" + cue % (r"\.", r"\.") + ")*", found.to_vtt())
    for first, last in _times(found.to_srt()):
        assert first < last


def _times(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        if re.match(r"\d+:\d\d:\d\d,\d{3} --> ", line):
            first, _, last = line.partition(" --> ")
            yield first.zfill(20), last.zfill(20)


# --- the whole result ---------------------------------------------------------------------------


def test_a_result_and_its_parts(result: Diarization) -> None:
    assert result.labels == [A, B]
    assert result.real_time_factor == 0.1
    assert result.to_rttm() == result.speaker_diarization.to_rttm()
    assert result.to_rttm(exclusive=True) == result.exclusive_speaker_diarization.to_rttm()
    assert "00:00:01,750" in result.to_srt(exclusive=True)
    assert "00:00:01.750" in result.to_vtt(exclusive=True)
    assert Diarization("", Turns(), Turns(), np.zeros((0, 2)), 0.0).real_time_factor == 0.0


def test_json_holds_everything_once(result: Diarization) -> None:
    assert json.loads(result.to_json(model={"dtype": "float32"})) == {
        "uri": "talk",
        "duration": 10.0,
        "speakers": [
            {"label": A, "seconds": 1.7, "turns": 2},
            {"label": B, "seconds": 2.5, "turns": 1},
        ],
        "diarization": [
            {"start": 0.5, "end": 2.0, "speaker": A},
            {"start": 1.5, "end": 4.0, "speaker": B},
            {"start": 5.0, "end": 5.2, "speaker": A},
        ],
        "exclusive_diarization": [
            {"start": 0.5, "end": 1.75, "speaker": A},
            {"start": 1.75, "end": 4.0, "speaker": B},
            {"start": 5.0, "end": 5.2, "speaker": A},
        ],
        "model": {"dtype": "float32"},
        "notes": ["a note"],
    }


def test_json_says_more_where_asked(result: Diarization) -> None:
    found = json.loads(result.to_json(embeddings=True, timing=True))
    assert [one["embedding"] for one in found["speakers"]] == [[1.0, 0.0], [0.0, 2.0]]
    assert found["seconds"] == {"reading": 0.25, "embeddings": 0.75}
    assert found["real_time_factor"] == 0.1
    result.speaker_embeddings[0, 0] = np.nan
    assert json.loads(result.to_json(embeddings=True))["speakers"][0]["embedding"][0] is None


def test_json_of_nothing_and_of_odd_names() -> None:
    nothing = Diarization("\udc80 会議\n", Turns(), Turns(), np.zeros((0, 2)), 0.5)
    text = nothing.to_json()
    assert "会議" in text
    assert json.loads(text.encode())["uri"] == nothing.uri
    assert json.loads(text)["speakers"] == []


def test_short_turns_take_their_speakers_with_them(result: Diarization) -> None:
    kept = result.at_least(2.0)
    assert kept.labels == [B]
    assert kept.exclusive_speaker_diarization.labels() == [B]
    np.testing.assert_array_equal(kept.speaker_embeddings, [[0.0, 2.0]])
    assert result.at_least(0.0).speaker_diarization == result.speaker_diarization
    assert result.at_least(60.0).speaker_embeddings.shape == (0, 2)


def test_other_names_keep_their_voices(result: Diarization) -> None:
    named = result.renamed({A: "zoë", "nobody": "x"})
    assert named.labels == [B, "zoë"]
    np.testing.assert_array_equal(named.speaker_embeddings, [[0.0, 2.0], [1.0, 0.0]])
    assert named.exclusive_speaker_diarization.labels() == [B, "zoë"]
    assert result.labels == [A, B]


def test_two_of_one_name_become_one(result: Diarization) -> None:
    named = result.renamed({A: "x", B: "x"})
    assert named.labels == ["x"]
    # 1.7 s of the one and 2.5 s of the other.
    np.testing.assert_allclose(named.speaker_embeddings, [[1.7 / 4.2, 5.0 / 4.2]])


# --- the picture --------------------------------------------------------------------------------


def test_loudness_of_a_recording() -> None:
    sound = np.concatenate([tone(1.0), np.zeros(RATE, np.float32), 4 * tone(1.0)])
    pieces = [sound[at : at + 7_000] for at in range(0, len(sound), 7_000)]
    found = envelope(iter(pieces), 3.0, columns=6)
    np.testing.assert_allclose(found, [0.5, 0.5, 0.0, 0.0, 1.0, 1.0], atol=1e-3)
    assert envelope(iter(()), 0.0).shape == (800,)


@pytest.mark.parametrize("duration", [0.01, 5.2, 59.0, 600.0, 4 * 3600.0, 100 * 3600.0])
def test_the_picture_is_xml_with_a_lane_a_speaker(duration: float) -> None:
    names = ["<Anna & \x00 Co>", "b" * 40]
    spans = [(0.0, duration / 2, names[0]), (duration / 4, duration, names[1])]
    found = draw(turns(*spans, uri="<&>"), np.linspace(0, 1, 50, dtype=np.float32), duration)
    page = ET.fromstring(found)
    svg = "{http://www.w3.org/2000/svg}"
    lanes = [rect for rect in page.iter(f"{svg}rect") if rect.get("fill")]
    assert len(lanes) == 2
    right = float(lanes[1].get("x", 0)) + float(lanes[1].get("width", 0))
    assert right == pytest.approx(990, abs=1)
    assert lanes[0].get("y") != lanes[1].get("y")
    marks = [text.text or "" for text in page.iter(f"{svg}text")]
    assert 3 <= len(marks) <= 13
    assert max(map(len, marks)) <= 18
    assert "prefers-color-scheme: dark" in found


def test_a_picture_of_nobody() -> None:
    ET.fromstring(draw(Turns(), np.zeros(10, np.float32), 0.0))
