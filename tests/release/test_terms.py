"""Why a bundle may not leave: every term, broken alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_release import Ready, edit, edit_result, rejudged, write_gallery

from samevoice.errors import NotPassedError, SamevoiceError
from samevoice.parity import result as results
from samevoice.parity.result import Artefact
from samevoice.release import contents, evidence, terms
from samevoice.release.evidence import licence_fault
from samevoice.release.terms import TERMS, Accepted, OfferError
from samevoice.release.verify import verify


def broken(ready: Ready, **more: Any) -> list[str]:
    """The terms that are, each named once."""
    return list(dict.fromkeys(one.term for one in ready.offer(**more).refusals))


def test_a_green_one_may_leave(made: Ready) -> None:
    assert made.offer().refusals == ()


def drop_result(ready: Ready) -> None:
    (ready.parity / "result.json").unlink()


def older_schema(ready: Ready) -> None:
    edit(ready.parity / "result.json", lambda found: found.update(schema=0))


def claim_passed(ready: Ready) -> None:
    edit_result(ready, lambda one: rejudged(one, "noise_ratio=0.001"))
    edit(ready.parity / "result.json", lambda found: found.update(passed=True))


def red(ready: Ready) -> None:
    edit_result(ready, lambda one: rejudged(one, "noise_ratio=0.001"))


def other_hash(ready: Ready) -> None:
    edit_result(ready, lambda one: replace(one, bundle=Artefact("0" * 64)))


def other_source(ready: Ready) -> None:
    edit_result(ready, lambda one: replace(one, source=Artefact("0" * 64)))


def other_dtype(ready: Ready) -> None:
    edit(ready.bundle / "config.json", lambda found: found.update(dtype="float16"))


def tf32(ready: Ready) -> None:
    edit_result(
        ready,
        lambda one: rejudged(
            replace(
                one,
                device="cuda-tf32",
                limits=terms_limits("cuda-tf32"),
            )
        ),
    )


def terms_limits(device: Any) -> Any:
    from samevoice.parity.limits import limits_for

    return limits_for("segmentation", "float32", device)


def fewer_inputs(ready: Ready) -> None:
    def without(one: Any) -> Any:
        gone = one.inputs[3].name
        taps = tuple(tap for tap in one.taps if tap.input != gone)
        return replace(one, inputs=(*one.inputs[:3], *one.inputs[4:]), taps=taps)

    edit_result(ready, without)


def shallower(ready: Ready) -> None:
    def seen(one: Any) -> Any:
        first = replace(one.inputs[0], notes={"depth": "output"})
        return replace(one, inputs=(first, *one.inputs[1:]))

    edit_result(ready, seen)


def fewer_taps(ready: Ready) -> None:
    """The outputs alone, and the claim that all layers were seen."""

    def outputs(one: Any) -> Any:
        return replace(one, taps=tuple(tap for tap in one.taps if tap.output))

    edit_result(ready, outputs)


def emptied_gallery(ready: Ready) -> None:
    """Nothing was looked for, and so nothing was missed."""
    edit(
        ready.gallery,
        lambda found: [row.update(where="", found="") for row in found["findings"]] and None,
    )


def no_finding(ready: Ready) -> None:
    edit(ready.gallery, lambda found: {**found, "findings": [{"architecture": "PyanNet"}]})


def lost_golden(ready: Ready) -> None:
    (ready.parity / "golden" / "003.safetensors").unlink()


def golden_elsewhere(ready: Ready) -> None:
    edit(
        ready.parity / "golden" / "golden.json",
        lambda found: found["examples"][0].update(file="../golden/000.safetensors"),
    )


def stray_golden(ready: Ready) -> None:
    """Somebody's recording, which would go out with the rest."""
    folder = ready.parity / "golden"
    shutil.copy(folder / "000.safetensors", folder / "099.safetensors")

    def more(found: Any) -> None:
        mine = {**found["examples"][0], "file": "099.safetensors", "name": "mine.wav"}
        found["examples"].append(mine)

    edit(folder / "golden.json", more)


def no_examples(ready: Ready) -> None:
    edit(ready.parity / "golden" / "golden.json", lambda found: found.update(examples=None))


def foreign_file(ready: Ready) -> None:
    """A pickle beside the weights, its hash where it should be."""
    from samevoice.converters import bundle as bundles

    (ready.bundle / "pytorch_model.bin").write_bytes(b"cos\nsystem\n")
    hashes = bundles.file_hashes(ready.bundle)
    edit(ready.bundle / "provenance.json", lambda found: found.update(outputs=hashes))


def other_input(ready: Ready) -> None:
    """Another sound by the same name."""

    def swapped(one: Any) -> Any:
        return replace(one, inputs=(replace(one.inputs[0], sha256="0" * 64), *one.inputs[1:]))

    edit_result(ready, swapped)
    edit(
        ready.parity / "golden" / "golden.json",
        lambda found: found["examples"][0].update(sha256="0" * 64),
    )


def no_golden(ready: Ready) -> None:
    shutil.rmtree(ready.parity / "golden")


def no_gallery(ready: Ready) -> None:
    ready.gallery.unlink()


def gallery_of_another(ready: Ready) -> None:
    write_gallery(ready.gallery, "embedding")


def gallery_of_its_role(ready: Ready) -> None:
    """Of another network that does the same task."""
    write_gallery(ready.gallery, "segmentation", architecture="SSeRiouSS")


def red_gallery(ready: Ready) -> None:
    edit(ready.gallery, lambda found: found["findings"][2].update(found="output"))


def short_gallery(ready: Ready) -> None:
    edit(ready.gallery, lambda found: {**found, "findings": found["findings"][:-1]})


def old_gallery(ready: Ready) -> None:
    write_gallery(ready.gallery, "segmentation", version="0.0.1")


def no_list_gallery(ready: Ready) -> None:
    ready.gallery.write_text("[]")


def loosened(ready: Ready) -> None:
    edit_result(ready, lambda one: rejudged(one, "noise_ratio=30"))


def changed_bundle(ready: Ready) -> None:
    (ready.bundle / "README.md").write_text("mine now")


@pytest.mark.parametrize(
    ("spoil", "expected", "words"),
    [
        (changed_bundle, ["bundle"], "first 'README.md'"),
        (drop_result, ["result"], "there is no result of the segmentation: run samevoice parity"),
        (older_schema, ["schema"], "schema 0"),
        (claim_passed, ["schema"], "passed is True, but the figures say False"),
        (red, ["verdict"], "noise_ratio is"),
        (other_hash, ["hashes"], "of other files (sha256 000000000000, not"),
        (other_source, ["source", "golden"], "another source"),
        (other_dtype, ["bundle", "hashes", "dtype"], "is float16, but its result is of float32"),
        (tf32, ["device"], "set MLX_ENABLE_TF32=0"),
        (fewer_inputs, ["inputs"], "1 of the default inputs, first 'silence'"),
        (shallower, ["inputs"], "first 'sample'"),
        (other_input, ["inputs"], "first 'sample'"),
        (fewer_taps, ["taps"], "lacks sincnet.wav_norm (free, sample)"),
        (emptied_gallery, ["gallery"], "looks for "),
        (no_finding, ["gallery"], "holds a row that is no finding"),
        (lost_golden, ["golden"], "003.safetensors is missing"),
        (golden_elsewhere, ["golden"], "which lies outside of it"),
        (stray_golden, ["golden"], "holds 'mine.wav', which the result was not made on"),
        (no_examples, ["golden"], "is not what was saved"),
        (foreign_file, ["bundle", "hashes"], "pytorch_model.bin of"),
        (no_golden, ["golden"], "golden.json"),
        (no_gallery, ["gallery"], "there is no gallery of PyanNet"),
        (gallery_of_another, ["gallery"], "holds no bug of PyanNet"),
        (gallery_of_its_role, ["gallery"], "holds no bug of PyanNet"),
        (red_gallery, ["gallery"], "was not found where it sits"),
        (short_gallery, ["gallery"], "lacks 1 bugs"),
        (old_gallery, ["gallery"], "of samevoice 0.0.1"),
        (no_list_gallery, ["gallery"], "holds no gallery"),
        (loosened, ["loosened"], "noise_ratio at every tap: 30 instead of 3"),
    ],
)
def test_each_is_refused_by_its_name(
    ready: Ready, spoil: Callable[[Ready], None], expected: list[str], words: str
) -> None:
    spoil(ready)
    assert broken(ready) == expected
    assert any(words in str(one) for one in ready.offer().refusals), ready.offer().refusals
    with pytest.raises(NotPassedError, match="not released"):
        contents.release(ready.offer(), ready.folder / "new")
    assert not (ready.folder / "new").exists()


def test_every_term_is_broken_above() -> None:
    """But for the licence, below, and the corpus, in test_corpora.py: none can be forgotten."""
    mark = test_each_is_refused_by_its_name.pytestmark[0]  # type: ignore[attr-defined]
    named = {name for _, expected, _ in mark.args[1] for name in expected}
    assert named | {"licence", "corpus"} == {term.name for term in TERMS}


def test_a_recording_beside_the_default_inputs_needs_no_golden_data(ready: Ready) -> None:
    """Nobody's own recording goes out with a release; the default ones must."""

    def heard_more(one: Any) -> Any:
        mine = replace(one.inputs[1], name="mine.wav", sha256="1" * 64)
        taps = [x for x in one.taps if x.input == one.inputs[1].name]
        more = tuple(replace(x, input="mine.wav") for x in taps)
        return replace(one, inputs=(*one.inputs, mine), taps=(*one.taps, *more))

    edit_result(ready, heard_more)
    assert broken(ready) == []
    made = contents.release(ready.offer(), ready.folder / "new")
    assert all(one.passed for one in verify(made.path))


def test_of_several_results_the_one_of_these_bytes_counts(ready: Ready) -> None:
    other = ready.folder / "other"
    shutil.copytree(ready.parity, other)
    edit_result(Ready(ready.folder), lambda one: replace(one, bundle=Artefact("0" * 64)))
    assert broken(ready) == ["hashes"]
    one = terms.offer(ready.bundle, [ready.parity, other], licence_ok=True)
    assert one.refusals == ()
    assert one.parts[0].result_path == other / "result.json"


def test_a_red_one_of_the_same_bytes_is_not_passed_over(ready: Ready) -> None:
    """Whichever is named first."""
    red_one = ready.folder / "red"
    shutil.copytree(ready.parity, red_one)
    path = red_one / "result.json"
    results.write(path, rejudged(results.read(path), "noise_ratio=0.001"))
    for given in ([ready.parity, red_one], [red_one, ready.parity]):
        one = terms.offer(ready.bundle, given, licence_ok=True)
        assert [x.term for x in one.refusals] == ["verdict"]


def test_a_loosened_limit_needs_its_own_name_and_a_reason(ready: Ready) -> None:
    edit_result(ready, lambda one: rejudged(one, "noise_ratio=30", "lstm.0.forward:max_abs=1"))
    accepted = (Accepted("noise_ratio", "a noisy machine"),)
    assert broken(ready) == ["loosened"]
    one = ready.offer(accepted=accepted)
    assert one.refusals == ()
    with pytest.raises(OfferError, match="cosine_min: only noise_ratio was loosened"):
        ready.offer(accepted=(Accepted("cosine_min", "why not"),))
    with pytest.raises(OfferError, match="noise_ratio was given twice"):
        ready.offer(accepted=(*accepted, Accepted("noise_ratio", "another")))


def test_a_result_that_is_not_there_is_bad_input(made: Ready) -> None:
    with pytest.raises(OfferError, match="--result nowhere: there is no such file") as caught:
        terms.offer(made.bundle, [Path("nowhere")])
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("licence", "fault"),
    [
        ({"id": "mit", "gated": False}, ""),
        ({"id": "cc-by-4.0", "gated": None}, ""),
        ({"id": "apache-2.0, mit", "gated": None}, ""),
        ({"id": "mit", "gated": True}, "is gated"),
        ({"id": "apache-2.0, cc-by-nc-4.0", "gated": None}, "is under 'cc-by-nc-4.0'"),
        ({"id": "other", "gated": False, "name": "mine"}, "is under 'other'"),
        ({"id": None, "gated": None}, "names no licence"),
        (None, "names no licence"),
        ("mit", "names no licence"),
        ({"id": ["mit"], "gated": False}, "names no licence"),
    ],
)
def test_licences_that_let_others_pass_it_on(licence: Any, fault: str) -> None:
    assert licence_fault({"name": "x", "licence": licence}) == fault
    assert licence_fault({"name": "x"}) == "names no licence"  # a bundle of an older samevoice


def test_a_source_without_a_licence_asks_for_consent(made: Ready) -> None:
    assert [str(one) for one in made.offer(licence_ok=False).refusals] == [
        "x.ckpt names no licence: read its terms, and if they let you pass it on, say so with "
        "--license-ok"
    ]


def test_what_is_no_bundle_is_bad_input(tmp_path: Path, made: Ready) -> None:
    with pytest.raises(SamevoiceError, match="no samevoice bundle") as caught:
        terms.offer(tmp_path, [made.parity])
    assert caught.value.exit_code == 2


def test_every_layer_is_demanded_and_a_block_wherever_the_result_has_it(
    narrow_bundle: Path,
) -> None:
    folder, block = narrow_bundle / "embedding", "resnet.layer1.0"
    outputs, forced = evidence.taps_of_network(folder, ())
    assert {"resnet.pool", "resnet.seg_1", f"{block}.conv1", "output.recorded"} <= set(outputs)
    assert {"resnet.pool.input", f"{block}.conv1.input", "output"} <= set(forced)
    assert "fbank.input" not in forced
    assert block not in outputs
    told, both = evidence.taps_of_network(folder, {block})
    assert set(told) - set(outputs) == {block}
    assert set(both) - set(forced) == {block, f"{block}.input"}


def test_a_network_that_breaks_off_demands_no_less(
    narrow_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from samevoice.models.layers.pooling import StatsPool

    def broken(*_: object) -> None:
        raise ValueError("no statistics today")

    monkeypatch.setattr(StatsPool, "__call__", broken)
    with pytest.raises(SamevoiceError, match="breaks off: ValueError: no statistics today"):
        evidence.taps_of_network(narrow_bundle / "embedding", ())
