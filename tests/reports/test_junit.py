"""JUnit XML that CIs read: valid whatever a tensor is called, and red where the result is."""

from __future__ import annotations

from xml.etree import ElementTree

import made_results
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samevoice.parity.result import Artefact, Result
from samevoice.reports.ci import junit
from samevoice.reports.text import visible


def suites(results: dict[str, Result]) -> ElementTree.Element:
    return ElementTree.fromstring(junit(results).encode())


def test_a_green_result_has_a_case_for_each_tap_and_one_for_the_task() -> None:
    root = suites({"port": made_results.green()})
    (suite,) = root
    assert suite.get("name") == "port: embedding, float32 on cpu"
    cases = suite.findall("testcase")
    assert len(cases) == len(made_results.green().taps) + 1
    assert {case.get("classname") for case in cases} == {"embedding"}
    assert cases[0].get("name") == "fbank (sample)"
    assert cases[-1].get("name") == "task"
    assert root.find(".//failure") is None
    assert suite.get("tests") == root.get("tests") == str(len(cases))
    assert suite.get("failures") == root.get("failures") == "0"


def test_a_red_result_names_its_taps_and_reasons() -> None:
    red = made_results.red()
    root = suites({"good": made_results.green("segmentation"), "bad": red})
    failed = [case for case in root.iter("testcase") if case.find("failure") is not None]
    names = [case.get("name") for case in failed]
    assert names == [tap.label for tap in red.verdict.failed] + ["task"]
    assert root.get("failures") == str(len(failed))
    failure = failed[0].find("failure")
    assert failure is not None
    assert failure.get("message") == red.verdict.failed[0].reasons[0]
    assert failure.get("type") == "parity"
    assert failure.text is not None
    assert "noise_ratio 1.35e+07" in failure.text
    task = failed[-1].find("failure")
    assert task is not None
    assert task.text == "\n".join(red.verdict.task_reasons)


def test_the_task_alone_makes_it_red() -> None:
    root = suites({"x": made_results.red_task()})
    (failure,) = root.iter("failure")
    assert "decision_agreement" in str(failure.get("message"))


def test_provenance_stands_in_the_properties() -> None:
    root = suites({"x": made_results.loosened()})
    found = {one.get("name"): one.get("value") for one in root.iter("property")}
    assert found["source.sha256"] == made_results.SHA
    assert found["source.name"] == "reference:embedding"
    assert found["bundle.sha256"] == made_results.SHA[::-1]
    assert found["version.mlx"] == "0.32.4"
    assert found["passed"] == "true"
    assert "0.5 instead of 0.999999" in str(found["loosened"])
    assert str(found["command"]).startswith("samevoice parity")


def test_nothing_compared_is_a_failure() -> None:
    from samevoice.parity.judge import Verdict
    from samevoice.parity.limits import limits_for

    limits = limits_for("generic", "float32", "cpu")
    nothing = Result.of(
        Verdict((), limits), model_type="x", source=Artefact(""), bundle=Artefact(""), versions={}
    )
    (failure,) = suites({"x": nothing}).iter("failure")
    assert failure.get("message") == "no tap was compared"


def test_no_result_is_an_empty_but_valid_file() -> None:
    assert suites({}).get("tests") == "0"


@pytest.mark.parametrize("name", list(made_results.every_kind()))
def test_every_kind_of_result_is_valid(name: str) -> None:
    result = made_results.every_kind()[name]
    root = suites({name: result})
    failures = len(result.verdict.failed) + bool(result.verdict.task_reasons)
    assert root.get("failures") == str(failures)


def test_hostile_names_stay_names() -> None:
    root = suites(dict.fromkeys(made_results.HOSTILE, made_results.hostile()))
    known = {"testsuites", "testsuite", "testcase", "failure", "properties", "property"}
    assert {one.tag for one in root.iter()} == known
    names = {suite.get("name") for suite in root}
    for text in made_results.HOSTILE:
        assert f"{visible(text)}: embedding, float32 on cpu" in names


@settings(deadline=None, max_examples=100)
@given(st.text(st.characters(exclude_categories=()), max_size=20))
def test_any_text_survives_xml(text: str) -> None:
    result = made_results.judged([made_results.tap(f"x{text}", lambda x: 2 * x, shape=(2,))])
    root = suites({text: result})
    case = next(root.iter("testcase"))
    assert case.get("name") == visible(f"x{text} (sample)")
