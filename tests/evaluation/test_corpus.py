"""What a corpus is, and what is wrong with one that is none: always one sentence."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_audio import recording
from made_corpus import refused, summary, turn

from samevoice.evaluation.corpora import read
from samevoice.evaluation.corpus import CorpusError, read_uem

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


def test_a_name_is_the_same_however_its_accents_are_stored(folder: Path) -> None:
    """macOS often stores a letter and its accent apart; an editor writes them as one."""
    recording(folder / "zoe\u0308.wav")
    (folder / "other.rttm").write_text(turn("zo\u00eb"), encoding="utf-8")
    uem = "a 1 0.0 1.0\nb 1 0.0 1.0\nzoe\u0308 1 0.0 0.5\n"
    (folder / "all.uem").write_text(uem, encoding="utf-8")
    found = summary(read(str(folder)))[-1]
    assert found == ("zo\u00eb", "zoe\u0308.wav", [(0.0, 1.0, "ana")], ((0.0, 0.5),))


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


# A list -------------------------------------------------------------------------------------------


@pytest.fixture
def written(folder: Path) -> Path:
    """The list of two recordings; c, which lies elsewhere, is in none."""
    (folder.parent / "two.lst").write_text("\ufeffcorpus/a.wav\n# mine\n\n  corpus/b.wav\r\n")
    return folder.parent / "two.lst"


def test_a_list_names_recordings_with_their_reference_beside_them(written: Path) -> None:
    recording(written.parent / "corpus" / "not listed.wav")
    (written.parent / "corpus" / "b.rttm").write_text("")
    a = ("a", "a.wav", [(0.0, 1.0, "ana")])
    b: tuple[str, str, object] = ("b", "b.wav", [])
    assert read(str(written)).name == "two"
    assert summary(read(str(written))) == [(*a, None), (*b, None)]
    for name in ("a", "b"):
        (written.parent / "corpus" / f"{name}.uem").write_text(f"{name} 1 0 0.5\n")
    assert summary(read(str(written))) == [(*a, ((0, 0.5),)), (*b, ((0, 0.5),))]


def test_a_list_names_rttms_and_uems_that_lie_elsewhere(written: Path) -> None:
    (written.parent / "all.rttm").write_text(turn("a", 0.5) + turn("my_talk") + turn("other"))
    (written.parent / "all.uem").write_text("a 1 0 1\nmy_talk 1 0 0.5\n")
    recording(written.parent / "my talk.wav")
    tabs = "corpus/a.wav\tall.rttm\tall.uem\nmy talk.wav\tall.rttm\tall.uem\n"
    expected = [
        ("a", "a.wav", [(0.5, 1.5, "ana")], ((0.0, 1.0),)),
        ("my_talk", "my talk.wav", [(0.0, 1.0, "ana")], ((0.0, 0.5),)),
    ]
    written.write_text(tabs)
    assert summary(read(str(written))) == expected
    (written.parent / "my talk.wav").rename(written.parent / "my_talk.wav")
    written.write_text(tabs.replace("my talk", "my_talk").replace("\t", "   "))
    assert [x[2:] for x in summary(read(str(written)))] == [x[2:] for x in expected]
    # Without tabs, a line that names a file is one column, spaces or not.
    recording(written.parent / "my other.wav")
    (written.parent / "my other.rttm").write_text(turn("my_other"))
    written.write_text(f"my other.wav\n{written.parent}/corpus/a.wav\n")
    assert [one.uri for one in read(str(written)).recordings] == ["my_other", "a"]
    # An empty column is none.
    written.write_text("corpus/a.wav\t\tall.uem\n")
    assert summary(read(str(written))) == [("a", "a.wav", [(0, 1, "ana")], ((0.0, 1.0),))]


def test_a_list_may_name_urls_whose_reference_is_here(written: Path) -> None:
    written.write_text("s3://talks/a.wav\tcorpus/a.rttm\n")
    (one,) = read(str(written)).recordings
    assert (one.uri, one.audio) == ("a", "s3://talks/a.wav")
    assert one.reference.spans == [(0.0, 1.0, "ana")]
    written.write_text("s3://talks/a.wav\n")
    refused(written, "two.lst has no RTTM of s3://talks/a.wav: write a.rttm beside it, or name")
    written.write_text("s3://talks/a.wav\tcorpus/z.rttm\n")
    refused(written, "line 1: there is no RTTM")


def test_a_list_needs_references_for_all_or_none(written: Path) -> None:
    (written.parent / "corpus" / "a.uem").write_text("a 1 0 1\n")
    refused(written, "two.lst has no UEM of", "b.wav: write b.uem beside it, or name one")
    (written.parent / "corpus" / "a.uem").unlink()
    (written.parent / "corpus" / "b.rttm").unlink()
    refused(written, "two.lst has no RTTM of", "b.wav: write b.rttm beside it, or name one")
    (written.parent / "corpus" / "a.rttm").unlink()
    refused(written, "two.lst has no RTTM of", "a.wav")
    found = read(str(written), insist=False)
    assert (found.referenced, [one.uri for one in found.recordings]) == (False, ["a", "b"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "two.lst names no recordings: write one path a line"),
        ("\n# corpus/a.wav\n", "two.lst names no recordings"),
        ("corpus/a.wav\nz.wav", "two.lst, line 2: there is no recording"),
        ("\tcorpus/a.rttm", "line 1: the recording is missing"),
        ("corpus", "line 1: there is no recording"),
        ("x" * 5000, "line 1: there is no recording"),
        ("corpus/a.wav none.rttm", "line 1: there is no RTTM"),
        ("corpus/a.wav\tcorpus/a.rttm\tnone.uem", "line 1: there is no UEM"),
        ("corpus/a.wav a b c", "this one has 4 columns: put tabs between paths with spaces"),
        ("corpus/a.wav\ncorpus/a.wav", "have the same name: rename one"),
        ("corpus/a.wav\tcorpus/b.rttm", "b.rttm does not name 'a', as"),
        ("corpus/a.wav\tcorpus/a.wav", "a.wav is no UTF-8 text: is the file RTTM?"),
        ("corpus/a.wav\ttwo.lst", "begins no RTTM line"),
        ("corpus/a.wav\t\tcorpus/a.rttm", "a line of a UEM is a name, a channel"),
    ],
)
def test_a_list_that_is_none_is_one_line(written: Path, text: str, said: str) -> None:
    written.write_text(text)
    refused(written, said)


def test_a_list_that_cannot_be_read(written: Path) -> None:
    written.write_bytes(b"corpus/a.wav\n\xff\n")
    refused(written, "two.lst is not UTF-8")
    written.unlink()
    refused(written, "cannot read", "two.lst: No such file")
    refused(written.with_suffix(".csv"), "two.csv is no corpus: name a folder", "a list (.lst")


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
