"""A whole pipeline leaves with four results, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_evaluation import system, write
from made_release import edit, sum_again, write_gallery
from made_whole import configs, write_results
from typed import ended

from samevoice.release import contents, terms
from samevoice.release.verify import verify

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def whole(reference_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The reference pipeline's bundle, and a folder of its results."""
    return reference_bundle, write_results(reference_bundle, tmp_path_factory.mktemp("whole"))


def test_it_leaves_with_all_four(whole: tuple[Path, Path], tmp_path: Path) -> None:
    bundle, folder = whole
    one = terms.offer(bundle, [folder], licence_ok=True)
    assert one.refusals == ()
    assert [part.label for part in one.parts] == ["embedding", "plda", "segmentation", "pipeline"]
    made = contents.release(one, tmp_path / "release")
    found = list(verify(made.path, replay=False))
    assert [(x.name, x.says) for x in found if not x.passed] == []
    for name in ("segmentation", "embedding", "pipeline"):
        assert (made.path / "parity" / name / "golden" / "golden.json").is_file()
        assert (made.path / "parity" / name / "report.html").is_file()
    text = (made.path / "README.md").read_text()
    assert "> **reference weights: for parity, not for use**" in text
    assert "- reference\n" in text
    assert 'SpeakerDiarizationPipeline("speaker-diarization-mlx")' in text
    assert "dropped 36 such as" in text


@pytest.mark.parametrize("part", ["segmentation", "embedding", "plda", "pipeline"])
def test_without_one_of_them_it_stays(whole: tuple[Path, Path], part: str) -> None:
    bundle, folder = whole
    given = [folder / name for name in ("segmentation", "embedding", "plda", "pipeline")]
    given = [path for path in given if path.name != part]
    one = terms.offer(bundle, given, gallery=folder / "gallery.json", licence_ok=True)
    (only,) = one.refusals
    assert (only.term, only.why) == ("result", f"there is no result of the {part}")


def test_both_networks_need_their_gallery(whole: tuple[Path, Path], tmp_path: Path) -> None:
    bundle, folder = whole
    write_gallery(tmp_path / "gallery.json", "segmentation", configs=configs(bundle))
    one = terms.offer(bundle, [folder], gallery=tmp_path / "gallery.json", licence_ok=True)
    (only,) = one.refusals
    assert only.why == "the gallery holds no bug of WeSpeakerResNet34"


def test_the_fast_mode_is_offered_with_an_evaluation_of_it(
    whole: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bundle, folder = whole
    words = ["release", bundle, "--result", folder, "--license-ok", "--fast", "--dry-run"]
    assert ended(*words) == 1
    said = capfd.readouterr()
    assert "the card offers --fast, and no --evaluation over a corpus says" in said.err
    path = write(tmp_path / "x.json", system(bundle), system(bundle, fast=True))
    assert ended(*words, "--evaluation", path) == 0
    one = terms.offer(bundle, [folder], licence_ok=True, fast=True, evaluations=[path])
    made = contents.release(one, tmp_path / "release").path
    assert "meeting.rttm --fast\n" in (made / "README.md").read_text()
    assert all(x.passed for x in verify(made, replay=False))
    edit(made / "parity" / "release.json", lambda found: found.update(fast=False))
    sum_again(made)
    found = {x.name: x.says for x in verify(made, replay=False) if not x.passed}
    assert list(found) == ["corpus"]
    assert "names another corpus" in found["corpus"]


def test_swapped_networks_are_found(whole: tuple[Path, Path], tmp_path: Path) -> None:
    """Each is green for itself, and stands where the other should."""
    bundle, folder = whole
    made = contents.release(terms.offer(bundle, [folder], licence_ok=True), tmp_path / "release")
    proof = made.path / "parity"
    (proof / "segmentation").rename(proof / "aside")
    (proof / "embedding").rename(proof / "segmentation")
    (proof / "aside").rename(proof / "embedding")
    sum_again(made.path)
    found = {x.name: x.says for x in verify(made.path, replay=False) if not x.passed}
    assert found["weights"].startswith("parity/embedding/result.json is of the segmentation")
