"""What a corpus is, and what is wrong with one that is none: always one sentence."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_audio import recording

from samevoice.evaluation.corpus import Corpus, CorpusError, read, read_uem

TURN = "SPEAKER {uri} 1 {start:.3f} {length:.3f} <NA> <NA> {who} <NA> <NA>\n"
DATABASE = """\
Databases:
   Tiny: audio/{uri}.wav
Protocols:
   Tiny:
      SpeakerDiarization:
         One:
            test:
               uri: list.lst
               annotation: all.rttm
               annotated: all.uem
            train:
               uri: list.lst
               annotation: all.rttm
"""


def turn(uri: str, start: float = 0.0, length: float = 1.0, who: str = "ana") -> str:
    return TURN.format(uri=uri, start=start, length=length, who=who)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two recordings below a folder, each with its RTTM beside it."""
    for name in ("a", "b"):
        recording(tmp_path / "corpus" / f"{name}.wav")
        (tmp_path / "corpus" / f"{name}.rttm").write_text(turn(name))
    return tmp_path / "corpus"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    pytest.importorskip("pyannote.database")
    for name in ("a", "b"):
        recording(tmp_path / "audio" / f"{name}.wav")
    (tmp_path / "list.lst").write_text("a\nb\n")
    (tmp_path / "all.rttm").write_text(turn("a") + turn("b", 0.5, 0.25, "bob"))
    (tmp_path / "all.uem").write_text("a 1 0.0 1.0\nb 1 0.5 1.0\nb 1 0.0 0.25\n")
    (tmp_path / "database.yml").write_text(DATABASE)
    return tmp_path / "database.yml"


def summary(corpus: Corpus) -> list[tuple[str, str, object, object]]:
    return [(r.uri, r.audio.name, r.reference.spans, r.scored) for r in corpus.recordings]


def refused(word: object, *parts: str) -> None:
    with pytest.raises(CorpusError) as error:
        read(str(word))
    said = str(error.value)
    assert "\n" not in said
    assert re.search(".*".join(map(re.escape, parts)), said), said


# A folder -----------------------------------------------------------------------------------------


def test_each_recording_has_its_reference_beside_it(folder: Path) -> None:
    (folder / "b.rttm").write_text("")  # nobody speaks
    (folder / ".hidden.wav").write_text("no business of ours")
    assert summary(read(str(folder))) == [
        ("a", "a.wav", [(0.0, 1.0, "ana")], None),
        ("b", "b.wav", [], None),
    ]


def test_two_pipelines_need_no_reference_but_all_or_none(folder: Path) -> None:
    (folder / "b.rttm").unlink()
    with pytest.raises(CorpusError, match="no RTTM below"):
        read(str(folder), insist=False)
    (folder / "a.rttm").unlink()
    refused(folder, "no RTTM below")
    found = read(str(folder), insist=False)
    assert not found.referenced
    assert summary(found) == [("a", "a.wav", [], None), ("b", "b.wav", [], None)]


def test_one_file_holds_all_wherever_it_lies(folder: Path) -> None:
    for name in ("a", "b"):
        (folder / f"{name}.rttm").unlink()
    (folder / "references").mkdir()
    (folder / "references" / "all.rttm").write_text(turn("b") + turn("a", 0.5, 0.5))
    (folder / "all.uem").write_text(";; scored\na 1 0.0 0.5\nb 1 0.5 1.0\nb 1 0.0 0.5\n")
    assert summary(read(str(folder))) == [
        ("a", "a.wav", [(0.5, 1.0, "ana")], ((0.0, 0.5),)),
        ("b", "b.wav", [(0.0, 1.0, "ana")], ((0.0, 0.5), (0.5, 1.0))),
    ]


def test_a_name_with_spaces_is_what_rttm_can_hold(folder: Path) -> None:
    recording(folder / "my talk.wav")
    (folder / "other.rttm").write_text(turn("my_talk"))
    assert [one.uri for one in read(str(folder)).recordings] == ["a", "b", "my_talk"]


def test_what_does_not_fit_is_said(folder: Path) -> None:
    refused("nowhere", "nowhere is no corpus: name a folder")
    (folder / "b.rttm").unlink()
    refused(folder, "no RTTM below", "names", "b.wav: write b.rttm")
    (folder / "b.rttm").write_text(turn("a"))
    refused(folder, "a.rttm and", "b.rttm both name 'a'")
    (folder / "b.rttm").write_text(turn("b") + turn("c"))
    refused(folder, "b.rttm names 'c', and", "holds no such recording")
    (folder / "b.rttm").write_text(turn("b"))
    (folder / "a.uem").write_text("a 1 0 1\n")
    refused(folder, "no UEM below", "b.wav: write b.uem")
    recording(folder / "again" / "a.flac")
    refused(folder, "a.wav and", "a.flac have the same name")


def test_where_nobody_speaks_there_is_nothing_to_score(folder: Path) -> None:
    for name in ("a", "b"):
        (folder / f"{name}.rttm").write_text("")
    refused(folder, "nobody speaks in any reference of")


def test_without_recordings_it_is_no_corpus(tmp_path: Path) -> None:
    (tmp_path / "a.rttm").write_text(turn("a"))
    refused(tmp_path, "holds no recordings")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a 1 0.0", "line 1: a line of a UEM is a name, a channel, a start and an end"),
        ("\na 1 zero 1.0", "line 2: 'zero' to '1.0' are no times"),
        ("a 1 1.0 1.0", "1 to 1 s is no region"),
        ("a 1 0.0 nan", "0 to nan s is no region"),
        ("a 1 -1 2", "-1 to 2 s is no region"),
        ("a 1 0 inf", "0 to inf s is no region"),
        ("a 1 0 2\na 1 1 3", "two regions overlap at 1 s: merge them"),
        (";; nothing", "names no regions"),
    ],
)
def test_a_uem_that_is_none(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.uem").write_text(text)
    with pytest.raises(CorpusError, match=re.escape(said)):
        read_uem(tmp_path / "a.uem")


@given(st.one_of(st.binary(max_size=60), st.text("a1 .-\n\tnif", max_size=60).map(str.encode)))
def test_whatever_a_uem_holds_it_is_regions_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.uem"
    path.write_bytes(content)
    with suppress(CorpusError):  # and no other error
        for regions in read_uem(path).values():
            times = [time for region in regions for time in region]
            assert times == sorted(times)
            assert all(start < end for start, end in regions)


def test_what_is_scored_must_lie_in_the_recording(folder: Path) -> None:
    (one, _) = read(str(folder)).recordings
    assert one.regions(1.0) == ((0.0, 1.0),)
    assert one.regions(0.5) == ((0.0, 0.5),)  # the last digits were rounded
    (folder / "a.rttm").write_text(turn("a", 0.0, 10.0))
    (one, _) = read(str(folder)).recordings
    with pytest.raises(CorpusError, match=r"a\.wav ends at 1\.0 s, but its reference goes on to"):
        one.regions(1.0)
    (folder / "all.uem").write_text("a 1 0 0.5\nb 1 0 4\n")
    a, b = read(str(folder)).recordings
    assert a.regions(1.0) == ((0.0, 0.5),)  # what is behind it is not scored
    with pytest.raises(CorpusError, match=r"b\.wav ends at 1\.0 s, but its UEM goes on to 4\.0 s"):
        b.regions(1.0)


# A protocol ---------------------------------------------------------------------------------------


def test_a_protocol_of_pyannote_database(database: Path, capfd: pytest.CaptureFixture[str]) -> None:
    name = f"{database}:Tiny.SpeakerDiarization.One"
    a, b = ("a", "a.wav", [(0.0, 1.0, "ana")]), ("b", "b.wav", [(0.5, 0.75, "bob")])
    assert summary(read(f"{name}.test")) == [
        (*a, ((0.0, 1.0),)),
        (*b, ((0.0, 0.25), (0.5, 1.0))),
    ]
    assert summary(read(f"{name}.train")) == [(*a, None), (*b, None)]
    assert capfd.readouterr() == ("", "")


def test_a_protocol_may_be_without_references(database: Path) -> None:
    lines = database.read_text().splitlines(keepends=True)
    database.write_text("".join(line for line in lines if "annotation" not in line))
    word = f"{database}:Tiny.SpeakerDiarization.One.train"
    refused(word, "has no turn of 'a'")
    found = read(word, insist=False)
    assert (found.referenced, [one.uri for one in found.recordings]) == (False, ["a", "b"])


def test_what_a_protocol_lacks_is_said(database: Path) -> None:
    whole = f"{database}:Tiny.SpeakerDiarization.One.test"
    refused(f"{database}:Tiny.One.test", "'Tiny.One.test' is no subset: name it as Database.")
    refused(f"{database}:Tiny.SpeakerDiarization.One.all", "with one of train, development, test")
    refused(f"{database}:Other.SpeakerDiarization.One.test", "cannot be read", "Other")
    refused("none.yml:Tiny.SpeakerDiarization.One.test", "cannot be read", "none.yml")
    (database.parent / "audio" / "b.wav").unlink()
    refused(whole, 'cannot be read: Could not find file "b"')
    recording(database.parent / "audio" / "b.wav")
    (database.parent / "all.uem").write_text("a 1 0.0 1.0\n")
    refused(whole, "has a UEM that does not name 'b'")
    (database.parent / "all.rttm").write_text(turn("a"))
    refused(whole, "has no turn of 'b'")
    (database.parent / "list.lst").write_text("a\na\n")
    refused(whole, "a.wav and", "a.wav have the same name")
    database.write_text("Protocols: [1")
    refused(whole, "cannot be read")
