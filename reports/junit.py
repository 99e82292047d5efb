"""JUnit XML, which every CI reads: a suite for each result, a case for each tap."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from xml.etree import ElementTree

from samevoice.parity.judge import TapVerdict
from samevoice.parity.result import Result
from samevoice.reports.text import visible
from samevoice.reports.view import compared
from samevoice.reports.words import number

SHOWN = ("noise_ratio", "max_abs", "mean_abs", "p99", "nmse", "cosine_min", "norm_ratio")


def junit(results: Mapping[str, Result]) -> str:
    """Name -> result; what XML forbids is written as its escape."""
    root = ElementTree.Element("testsuites", name="samevoice")
    for name, result in results.items():
        _suite(root, name, result)
    _tally(root, list(root))
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, "unicode")}\n'


def _suite(root: ElementTree.Element, name: str, result: Result) -> None:
    suite = _child(root, "testsuite", name=f"{name}: {compared(result)}")
    noted = _child(suite, "properties")
    for key, value in _properties(result):
        _child(noted, "property", name=key, value=value)
    if not result.taps:
        _case(suite, result, "taps", ["no tap was compared"])
    for tap in result.taps:
        _case(suite, result, tap.label, tap.reasons, _figures(tap))
    if result.limits.for_task:
        _case(suite, result, "task", result.verdict.task_reasons)
    cases = suite.findall("testcase")
    suite.set("tests", str(len(cases)))
    suite.set("failures", str(sum(case.find("failure") is not None for case in cases)))
    suite.set("errors", "0")
    suite.set("skipped", "0")


def _properties(result: Result) -> Iterator[tuple[str, str]]:
    """Where the result comes from."""
    yield "passed", str(result.passed).lower()
    yield "first_divergence", result.first_divergence or ""
    yield "schema", str(result.schema)
    yield "command", " ".join(result.command)
    for who, artefact in (("source", result.source), ("bundle", result.bundle)):
        yield f"{who}.sha256", artefact.sha256
        for key, value in sorted(artefact.notes.items()):
            yield f"{who}.{key}", value
    for key, value in sorted(result.versions.items()):
        yield f"version.{key}", value
    for one in result.loosened:
        yield "loosened", str(one)


def _case(
    suite: ElementTree.Element,
    result: Result,
    name: str,
    reasons: tuple[str, ...] | list[str],
    figures: str = "",
) -> None:
    case = _child(suite, "testcase", classname=result.model_type, name=name)
    if reasons:
        failure = _child(case, "failure", message=reasons[0], type="parity")
        failure.text = "\n".join(visible(line) for line in (*reasons, figures) if line)


def _figures(tap: TapVerdict) -> str:
    figures = ", ".join(f"{name} {number(getattr(tap, name))}" for name in SHOWN)
    return f"shape {list(tap.shape)}, {tap.dtype}: {figures}"


def _child(parent: ElementTree.Element, tag: str, **attributes: str) -> ElementTree.Element:
    shown = {name: visible(value) for name, value in attributes.items()}
    return ElementTree.SubElement(parent, tag, shown)


def _tally(root: ElementTree.Element, suites: list[ElementTree.Element]) -> None:
    for name in ("tests", "failures", "errors", "skipped"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in suites)))
