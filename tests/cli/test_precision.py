"""samevoice precision as it is typed, on small networks."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import made_up
import mlx.core as mx
import numpy as np
import pytest
from made_campplus import small_campplus, source_of
from typed import Run

import samevoice
from samevoice.converters.recipe import TYPES
from samevoice.precision.trial import Trial

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def source(pyannote: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline of a small segmentation and a narrow embedding, as pyannote has it."""
    del pyannote
    folder = tmp_path_factory.mktemp("small")
    (folder / "segmentation").mkdir()
    network = made_up.pyannet(hidden=32, layers=1, linear=1)
    made_up.save(network, folder / "segmentation" / "pytorch_model.bin")
    embedding = small_campplus(folder / "campplus.pt", whole=True)
    return source_of(folder / "source", folder / "segmentation", embedding)


def read(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(folder) / "precision.json").read_text())
    return found


def test_the_recipe_gives_the_bundle_that_was_measured(source: Path, typed: Run) -> None:
    part = source / "segmentation"
    samevoice.convert(part, "seg")
    answer = typed(f"precision seg --source {part} --limit decision_agreement=0.9")
    assert answer.code == 0, answer.err
    assert "of float32, keeps every limit of the task." in answer.out
    said = read("seg-precision")
    page = (Path(__file__).parents[2] / "docs" / "precision.md").read_text()
    rows = page.partition("## precision.json")[2].split("\n| ")[3:]
    named = [re.findall(r"`(\w+)`", row.split("|")[0]) for row in rows]
    assert [key for row in named for key in row] == list(said)
    (one,) = said["parts"]
    assert [rung["name"] for rung in one["ladder"]] == list(TYPES)
    assert [x["bound"] for x in one["limits"]] == [0.9]
    sizes = [rung["bytes"] for rung in one["ladder"]]
    found = one["found"]
    assert found["kept"]
    assert found["decision_agreement"] >= 0.9
    smallest = [x["bytes"] for x in (*one["ladder"], *one["tried"]) if x["kept"]]
    assert found["bytes"] == min(smallest) < sizes[0]

    # More bits are never worse, layer by layer, by far.
    for layer in one["layers"]:
        errors = {type_: figures["error"] for type_, figures in layer["types"].items()}
        assert errors["float16"] < errors["bfloat16"]
        assert "4" not in errors or errors["8"] < errors["6"] < errors["4"]

    made = samevoice.convert(part, "small", recipe="seg-precision/recipe.toml")
    index = json.loads(Path("small/model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == found["bytes"] == made.parts[0].nbytes
    plain, small = samevoice.load("seg"), samevoice.load("small")
    x = mx.array(np.random.default_rng(0).standard_normal((1, 16000)).astype(np.float32))
    gap = float(mx.abs(plain(x) - small(x)).max())
    assert 1e-5 < gap < 1

    page = Path("seg-precision/precision.html").read_text()
    assert "<span>samevoice precision</span>" in page
    assert "Not drawn" not in page
    assert page.count("<figure") == 2
    assert "lstm.0.forward" in page
    recipe = Path("seg-precision/recipe.toml").read_text()
    assert recipe.strip() in Path("seg-precision/precision.md").read_text()


def test_a_pipeline_is_heard_in_every_type(
    source: Path, pieces: Path, typed: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of 230 layers three.
    some = {"classifier": ["float16", "bfloat16"], "head.conv2": ["bfloat16"], "linear.0": ["8"]}
    monkeypatch.setattr(Trial, "types_of", lambda self, layer: some.get(layer, []))
    samevoice.convert(source, "full")
    words = f"precision full --source {source} --corpus {pieces} --limit kendall_tau=-1"
    answer = typed(f"{words} --limit embedding_cosine_min=-1 --limit decision_agreement=0")
    assert answer.code == 0, answer.err
    said = read("full-precision")
    assert [one["part"] for one in said["parts"]] == ["embedding", "segmentation"]
    heard = said["corpus"]
    assert [one["name"] for one in heard["ladder"]] == [*TYPES, "found"]
    first = heard["ladder"][0]
    assert first["change"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert len(first["recordings"]) == len(heard["recordings"]) == 3
    assert "DER changes by" in " ".join(answer.out.split())

    made = samevoice.convert(source, "small", recipe="full-precision/recipe.toml")
    sizes = sum(part.nbytes for part in made.parts)
    assert sizes == said["sizes"]["found"] < said["sizes"]["float32"]
    page = Path("full-precision/precision.html").read_text()
    assert page.count("<figure") == 3
    assert "Not drawn" not in page


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("seg --limit noise_ratio=5", "none of the task, which the search keeps: name decision_"),
        ("seg --limit kendall_tau=1", "none of the task"),
        ("half", "half is float16: precision is found from float32"),
        ("seg --corpus {pieces}", "seg is no whole pipeline: a corpus needs one"),
        ("seg --limit decision_agreement=1 --output seg", "choose another path"),
        ("nothing", "nothing"),
    ],
)
def test_bad_input_is_one_line(
    words: str, said: str, source: Path, pieces: Path, typed: Run
) -> None:
    part = source / "segmentation"
    samevoice.convert(part, "seg")
    samevoice.convert(part, "half", dtype="float16")
    shutil.copy("seg/config.json", "seg/precision.json")
    answer = typed(f"precision {words.format(pieces=pieces)} --source {part}")
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert answer.err.count("\n") == 1
