"""Lhotse's manifests, written by Lhotse itself, and what is wrong with one that is none."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_audio import recording
from made_corpus import refused, summary

from samevoice.errors import SamevoiceError
from samevoice.evaluation.corpora import read

TALK = {  # whose, when, for how long, and who
    "a": [(0.1, 0.2, "ana"), (0.2, 0.7, "bob")],
    "b c": [(0.35, 0.3, "ana")],
}
EXPECTED = [
    ("a", "a.wav", [(0.1, 0.3, "ana"), (0.2, 0.9, "bob")], None),
    ("b_c", "b c.wav", [(0.35, 0.65, "ana")], None),
]


@pytest.fixture
def lhotse(tmp_path: Path) -> Any:
    found = pytest.importorskip("lhotse")
    for name in TALK:
        recording(tmp_path / "audio" / f"{name}.wav")
    return found


@pytest.fixture
def manifests(tmp_path: Path, lhotse: Any) -> tuple[Any, Any]:
    """The recordings and supervisions, as Lhotse has them."""
    recordings = [
        lhotse.Recording.from_file(tmp_path / "audio" / f"{name}.wav", recording_id=name)
        for name in TALK
    ]
    supervisions = [
        lhotse.SupervisionSegment(f"{name}-{k}", name, start, length, speaker=who)
        for name, turns in TALK.items()
        for k, (start, length, who) in enumerate(turns)
    ]
    return (
        lhotse.RecordingSet.from_recordings(recordings),
        lhotse.SupervisionSet.from_segments(supervisions),
    )


@pytest.fixture
def plain(tmp_path: Path, manifests: tuple[Any, Any]) -> Path:
    recordings, supervisions = manifests
    recordings.to_file(tmp_path / "recordings.jsonl")
    supervisions.to_file(tmp_path / "supervisions.jsonl")
    return tmp_path / "recordings.jsonl"


@pytest.mark.parametrize(
    ("first", "second", "name"),
    [
        ("recordings.jsonl.gz", "supervisions.jsonl.gz", "corpus"),
        ("recordings.jsonl", "supervisions.jsonl", "corpus"),
        ("ami_recordings_test.jsonl.gz", "ami_supervisions_test.jsonl", "ami_test"),
    ],
)
def test_turns_and_files_are_those_that_lhotse_wrote(
    tmp_path: Path, manifests: tuple[Any, Any], first: str, second: str, name: str
) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    recordings, supervisions = manifests
    recordings.to_file(folder / first)
    supervisions.to_file(folder / second)
    found = read(str(folder / first))
    assert (found.name, found.referenced) == (name, True)
    assert summary(found) == EXPECTED
    for theirs, ours in zip(recordings, found.recordings, strict=True):
        assert theirs.sources[0].source == str(ours.audio)
        turns = [(x.start, x.end, x.speaker) for x in supervisions.find(theirs.id)]
        assert turns == ours.reference.spans


def test_cuts_of_whole_recordings(tmp_path: Path, lhotse: Any, manifests: tuple[Any, Any]) -> None:
    cuts = lhotse.CutSet.from_manifests(*manifests)
    cuts.to_file(tmp_path / "cuts.jsonl.gz")
    found = read(str(tmp_path / "cuts.jsonl.gz"))
    assert found.name == tmp_path.name
    assert summary(found) == EXPECTED


def test_of_a_recording_only_its_cuts_are_scored(
    tmp_path: Path, lhotse: Any, manifests: tuple[Any, Any]
) -> None:
    cuts = lhotse.CutSet.from_manifests(*manifests)
    # 0 to 0.4, 0.4 to 0.8 and 0.8 to 1 s; Bob, who speaks in all three, is one turn.
    parts = cuts.cut_into_windows(0.4)
    parts.to_file(tmp_path / "cuts.jsonl")
    regions = ((0.0, 0.4), (0.4, 0.8), (0.8, 1.0))
    whole = [(*one[:3], regions) for one in EXPECTED]
    assert summary(read(str(tmp_path / "cuts.jsonl"))) == whole
    later = lhotse.CutSet.from_cuts(cut for cut in parts if cut.start == 0.4)
    later.to_file(tmp_path / "later.jsonl")
    assert summary(read(str(tmp_path / "later.jsonl"))) == [
        ("a", "a.wav", [(0.2, 0.9, "bob")], ((0.4, 0.8),)),
        ("b_c", "b c.wav", [(0.35, 0.65, "ana")], ((0.4, 0.8),)),
    ]
    cuts.trim_to_supervisions().to_file(tmp_path / "trimmed.jsonl")
    refused(tmp_path / "trimmed.jsonl", "cuts of a: two regions overlap at 0.2 s")


def test_cuts_that_are_mixed_are_refused(
    tmp_path: Path, lhotse: Any, manifests: tuple[Any, Any]
) -> None:
    cuts = lhotse.CutSet.from_manifests(*manifests)
    cuts.pad(duration=3.0).to_file(tmp_path / "mixed.jsonl")
    refused(tmp_path / "mixed.jsonl", "line 1: this is no recording and no MonoCut or MultiCut")
    lines = (tmp_path / "mixed.jsonl").read_text()
    cuts.to_file(tmp_path / "cuts.jsonl")
    with (tmp_path / "cuts.jsonl").open("a") as file:
        file.write(lines)
    refused(tmp_path / "cuts.jsonl", "line 3: a MixedCut is not supported: name MonoCuts")


def test_two_pipelines_need_no_supervisions(plain: Path, manifests: tuple[Any, Any]) -> None:
    (plain.parent / "supervisions.jsonl").unlink()
    refused(plain, "recordings.jsonl has no manifest of supervisions beside it: write superv")
    found = read(str(plain), insist=False)
    assert not found.referenced
    assert summary(found) == [(uri, name, [], None) for uri, name, *_ in EXPECTED]
    lhotse = pytest.importorskip("lhotse")
    lhotse.CutSet.from_manifests(manifests[0]).to_file(plain.parent / "cuts.jsonl")
    refused(plain.parent / "cuts.jsonl", "nobody speaks in any reference")
    assert not read(str(plain.parent / "cuts.jsonl"), insist=False).referenced


def test_relative_paths_are_found_from_here_or_from_the_manifest(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain.write_text(plain.read_text().replace(f"{plain.parent}/", ""))
    assert read(str(plain)).recordings[0].audio == plain.parent / "audio/a.wav"
    monkeypatch.chdir(plain.parent)
    assert read(str(plain)).recordings[0].audio == Path("audio/a.wav")


def test_a_recording_may_be_a_url(plain: Path) -> None:
    first = json.loads(plain.read_text().splitlines()[0])
    first["sources"][0] |= {"type": "url", "source": "s3://talks/a.wav"}
    plain.write_text("\n".join([json.dumps(first), *plain.read_text().splitlines()[1:]]))
    assert read(str(plain)).recordings[0].audio == "s3://talks/a.wav"


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("what", "change", "said"),
    [
        ("recordings", lambda x: x.pop("id"), "recordings.jsonl, line 1 lacks or misstates"),
        ("recordings", lambda x: x.update(sources=3), "line 1 lacks or misstates something"),
        ("recordings", lambda x: x.update(sources=[]), "'a' must have one source, a file or a URL"),
        (
            "recordings",
            lambda x: x["sources"][0].update(type="command", source="sox"),
            "must have one source, a file or a URL, and has 1 (command)",
        ),
        (
            "recordings",
            lambda x: x["sources"].append(x["sources"][0]),
            "must have one source, a file or a URL, and has 2 (file, file)",
        ),
        ("recordings", lambda x: x["sources"][0].update(source="z.wav"), "z.wav, of 'a', is not"),
        ("recordings", lambda x: x.update(transforms=[{"name": "Speed"}]), "'a' has transforms"),
        ("recordings", lambda x: x.update(id="b c"), "a.wav and"),
        ("supervisions", lambda x: x.update(recording_id="z"), "has no recording 'z'"),
        ("supervisions", lambda x: x.update(recording_id="b c"), ""),
        ("supervisions", lambda x: x.pop("speaker"), "the supervision 'a-0' names no speaker"),
        ("supervisions", lambda x: x.update(start="soon"), "supervisions.jsonl, line 1 lacks or"),
        ("supervisions", lambda x: x.update(duration=0), "'a-0' is from 0.1 to 0.1 s"),
        ("supervisions", lambda x: x.update(start=-1), "'a-0' is from -1 to -0.8 s"),
    ],
)
def test_a_manifest_that_is_damaged_is_one_line(
    plain: Path, what: str, change: Change, said: str
) -> None:
    path = plain.parent / f"{what}.jsonl"
    first, *rest = path.read_text().splitlines()
    line = json.loads(first)
    change(line)
    path.write_text("\n".join([json.dumps(line), *rest]))
    if said:
        refused(plain, said)
    else:
        read(str(plain))


def test_a_manifest_that_cannot_be_read_is_one_line(plain: Path) -> None:
    lines = plain.read_text().splitlines()
    plain.write_text("\n".join([lines[0], lines[1][:50]]))
    refused(plain, "recordings.jsonl, line 2: this line is damaged: it is no JSON")
    plain.write_text("")
    refused(plain, "recordings.jsonl is empty: it names no recordings")
    plain.write_text("\n".join(lines))
    (plain.parent / "supervisions.jsonl").write_text("")
    refused(plain, "supervisions.jsonl has no supervision of 'a': leave it out, or add some")
    other = plain.rename(plain.with_name("all.jsonl"))
    refused(other, "all.jsonl has no 'recordings' in its name")
    refused(plain, "recordings.jsonl cannot be read: No such file")
    packed = plain.with_name("recordings.jsonl.gz")
    packed.write_bytes(gzip.compress("\n".join(lines).encode())[:-20])
    refused(packed, "recordings.jsonl.gz is damaged: ")
    packed.write_bytes(b"no gzip")
    refused(packed, "recordings.jsonl.gz is damaged: Not a gzipped file")
    refused(plain.parent / "supervisions.jsonl", "is empty")


VALUES = st.recursive(
    st.none() | st.floats() | st.text(max_size=5) | st.sampled_from(["MonoCut", "file", "a"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "type", "sources", "start"]), inner)
    ),
    max_leaves=6,
)


KEYS = st.sampled_from(["id", "type", "sources", "recording", "start", "duration"])


@given(st.dictionaries(KEYS, VALUES))
def test_whatever_a_line_holds_it_is_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, line: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any_recordings.jsonl"
    path.write_text(json.dumps(line))
    with suppress(SamevoiceError):  # and no other error
        read(str(path), insist=False)
