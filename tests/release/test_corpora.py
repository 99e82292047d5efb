"""A coarse embedding and the fast mode leave with an evaluation over a corpus, or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_evaluation import system, write
from made_release import edit, sum_again
from made_whole import write_results

import samevoice
from samevoice.release import contents, terms
from samevoice.release.terms import TERMS, OfferError, Refusal
from samevoice.release.verify import verify

pytestmark = pytest.mark.long

SAME = (0.0,) * 25
# Of nine seconds of speech each: 0.4 points on average, and far from sure.
UNSURE = (*(0.0,) * 20, *(0.18,) * 5)


@pytest.fixture(scope="module")
def coarse(references: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference pipeline in float16, with results and a gallery beside it."""
    folder = tmp_path_factory.mktemp("coarse")
    samevoice.convert(references["full"], folder / "half", dtype="float16")
    write_results(folder / "half", folder / "proof")
    return folder


@pytest.fixture
def exact(reference_bundle: Path) -> Path:
    return reference_bundle


def offered(coarse: Path, *evaluations: Path, name: str = "half", **more: Any) -> terms.Offer:
    proof = [coarse / "proof"]
    return terms.offer(coarse / name, proof, licence_ok=True, evaluations=evaluations, **more)


def against(coarse: Path, *evaluations: Path, **more: Any) -> list[str]:
    """What the term says; the others are ``test_terms``'."""
    (term,) = (one for one in TERMS if one.name == "corpus")
    one = offered(coarse, *evaluations, **more)
    return [str(Refusal(term.name, *reason)) for reason in term.reasons(one)]


def test_without_one_a_coarse_embedding_stays(coarse: Path) -> None:
    (only,) = offered(coarse).refusals
    assert (only.term, str(only)) == (
        "corpus",
        "the embedding is float16, and no --evaluation over a corpus says what that costs: run "
        f"samevoice evaluate CORPUS --model EXACT --against {coarse}/half --output DIR and pass "
        "--evaluation DIR/evaluation.json (EXACT is the same pipeline in float32)",
    )


@pytest.fixture(scope="module")
def released(coarse: Path, reference_bundle: Path) -> Path:
    """With an evaluation; ``coarse/evaluation.json`` is what was given."""
    write(coarse / "evaluation.json", system(reference_bundle), system(coarse / "half"))
    return contents.release(offered(coarse, coarse), coarse / "release").path


def test_with_one_it_leaves_and_shows_it(coarse: Path, released: Path) -> None:
    made = released
    sha256 = json.loads((coarse / "evaluation.json").read_text())["corpus"]["sha256"]
    kept = (made / "parity" / "evaluation.json").read_text()
    assert '"talk07.wav"' in kept
    assert "/home/ana" not in kept
    card = (made / "README.md").read_text()
    assert "- the embedding is float16: der_increase is 0.00 points (95% interval" in card
    assert f"on 25 recordings of talks, corpus sha256 {sha256}" in card
    said = json.loads((made / "provenance.json").read_text())["evaluations"]
    assert said["evaluation.json"]["sha256"] == sha256
    outcomes = {one.name: one for one in verify(made, replay=False)}
    assert all(one.passed for one in outcomes.values())
    assert f"on 25 recordings of talks, corpus sha256 {sha256}" in outcomes["corpus"].says


@pytest.mark.parametrize(
    ("changes", "more", "words"),
    [
        ({}, {"missed": SAME[:19]}, "has 19 recordings, which are not enough to say: at least 20"),
        ({}, {"missed": UNSURE}, "25 recordings are not enough to say, about 2"),
        ({}, {"missed": (0.09,) * 25}, "says no: der_increase is 1.00 points"),
        ({}, {"failed": ["talk99"]}, "lacks recordings that failed, first 'talk99'"),
        ({}, {"referenced": False}, "has no references"),
        ({"dtype": "q8"}, {}, "is against an A that is not exact (q8, CPU)"),
        ({"fast": True}, {}, "is against an A that is not exact (float32, CPU, fast)"),
        ({"device": "CUDA-tf32"}, {}, "that is not exact (float32, CUDA-tf32)"),
        ({"origin": "0" * 64}, {}, "an A of another source, or with other settings"),
    ],
)
def test_one_that_does_not_show_it_is_refused(
    coarse: Path, exact: Path, tmp_path: Path, changes: Any, more: Any, words: str
) -> None:
    sides = system(exact, **changes), system(coarse / "half")
    (said,) = against(coarse, write(tmp_path / "x.json", *sides, **more))
    assert f"and {tmp_path}/x.json {words}" in said or words in said
    assert "run samevoice evaluate CORPUS" in said


def test_of_other_files_or_of_one_system_it_counts_for_nothing(
    coarse: Path, exact: Path, tmp_path: Path
) -> None:
    sides = [[system(exact), system(exact, fast=True)], [system(coarse / "half")]]
    sides += [[system(exact), system(coarse / "half", fast=True)]]
    for pair in sides:
        path = write(tmp_path / "x.json", *pair)
        (said,) = against(coarse, path)
        assert f"says what that costs ({path} is not of it): run" in said


def test_a_network_alone_is_heard_in_a_pipeline(coarse: Path, exact: Path, tmp_path: Path) -> None:
    name = "half/embedding"
    (said,) = against(coarse, name=name)
    assert "--against PIPELINE --output DIR" in said
    assert f"PIPELINE is one that holds {coarse}/{name}" in said
    path = write(tmp_path / "x.json", system(exact), system(coarse / "half"))
    assert against(coarse, path, name=name) == []
    assert against(coarse, name="half/segmentation") == []


def test_a_coarse_pipeline_needs_two_for_the_fast_mode(
    coarse: Path, exact: Path, tmp_path: Path
) -> None:
    first = write(tmp_path / "1.json", system(exact), system(coarse / "half"))
    (said,) = against(coarse, first, fast=True)
    assert "the card offers --fast, and no --evaluation" in said
    second = write(tmp_path / "2.json", system(exact), system(coarse / "half", fast=True))
    assert against(coarse, first, second, fast=True) == []


def faults(folder: Path) -> dict[str, str]:
    return {one.name: one.says for one in verify(folder, replay=False) if not one.passed}


def better(said: dict[str, Any]) -> None:
    said["recordings"] = said["recordings"][:22]


def another(said: dict[str, Any]) -> None:
    """All of it made again over a smaller corpus, and its hash."""
    from samevoice.evaluation.evaluated import hash_of_corpus

    better(said)
    said["corpus"]["sha256"] = hash_of_corpus(said["recordings"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (better, "the hash of its corpus is not that of its recordings"),
        (another, "provenance.json names another corpus"),
        (lambda said: said["systems"][1]["made_of"].update(fingerprint="0"), "other weights"),
        (None, "the embedding is float16, and parity/evaluation.json is missing"),
    ],
)
def test_verify_finds_what_was_changed(
    released: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None] | None, words: str
) -> None:
    made = tmp_path / "release"
    shutil.copytree(released, made)
    if change:
        edit(made / "parity" / "evaluation.json", change)
    else:
        (made / "parity" / "evaluation.json").unlink()
    sum_again(made)
    found = faults(made)
    assert list(found) == ["corpus"]
    assert words in found["corpus"]


def test_what_nothing_needs_is_bad_usage(coarse: Path, exact: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "x.json", system(exact), system(exact, fast=True))
    with pytest.raises(OfferError, match="a float32 release without --fast needs none"):
        terms.offer(exact, [coarse / "proof"], evaluations=[path])
    with pytest.raises(OfferError, match="--fast is a pipeline's, and"):
        offered(coarse, name="half/segmentation", fast=True)
