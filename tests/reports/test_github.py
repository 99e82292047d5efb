"""What GitHub Actions reads: a summary that it takes, and commands that nobody can forge."""

from __future__ import annotations

import re

import made_results
from hypothesis import given
from hypothesis import strategies as st

from samevoice.reports import ci
from samevoice.reports.ci import error_line, summary

COMMAND = re.compile(r"::error title=([^:,\r\n]*)::([^\r\n]*)")


def test_a_green_result_is_one_row_and_no_annotation() -> None:
    text = summary({"port": made_results.green()})
    assert text.startswith("### samevoice: 1 passed\n")
    assert "| ✅ | `port` | embedding, float32 on cpu | 34 | 1.07 | none |" in text
    assert "####" not in text
    assert ci.error_lines({"port": made_results.green()}) == []


def test_each_tap_is_a_row_with_its_worst_figures() -> None:
    red = made_results.red()
    rows = [line for line in summary({"bad": red}).splitlines() if line.startswith("| `")]
    assert len(rows) == len({tap.name for tap in red.taps})
    (pool,) = [row for row in rows if row.startswith("| `resnet.pool ")]
    worst = max(tap.judged_ratio for tap in red.taps if tap.name == "resnet.pool")
    assert f"| {worst:.3g} |" in pool


def test_a_red_result_says_where_and_likely_why() -> None:
    text = summary({"good": made_results.green(), "bad": made_results.red()})
    assert text.startswith("### samevoice: 1 of 2 failed\n")
    assert "| ❌ | `bad` |" in text
    assert "`resnet.pool (sample)`: noise_ratio is" in text
    assert "has the right values in other places" in text
    assert "Next: Look for a reshape" in text


def test_there_is_one_annotation_for_each_failed_tap_and_the_first_counts_them() -> None:
    red = made_results.red()
    lines = ci.error_lines({"good": made_results.green(), "bad": red})
    found = [COMMAND.fullmatch(line) for line in lines]
    assert all(found)
    failed, task = len(red.verdict.failed), len(red.verdict.task_reasons)
    assert len(lines) == failed + task
    assert lines[0].startswith("::error title=samevoice%3A resnet.pool (sample) diverges::")
    assert f"::1 of {len(lines)}: bad, embedding: noise_ratio is" in lines[0]
    assert not any("1 of" in line for line in lines[1:])


def test_a_failing_task_is_annotated_too() -> None:
    line, *_ = ci.error_lines({"x": made_results.red_task()})
    assert line.startswith("::error title=samevoice%3A the task fails::1 of 2: x, segmentation: ")


def test_percent_newlines_and_in_properties_colons_and_commas_are_escaped() -> None:
    assert error_line("a:b,c%", "100 %: x, y\n") == "::error title=a%3Ab%2Cc%25::100 %25: x, y\\n"
    assert ci._data("a%\r\nb") == "a%25%0D%0Ab"


@given(st.text(st.characters(exclude_categories=())), st.text(st.characters(exclude_categories=())))
def test_no_text_makes_a_second_command(title: str, message: str) -> None:
    line = error_line(title, message)
    assert len(line.splitlines()) == 1
    assert COMMAND.fullmatch(line)
    line.encode()


def test_hostile_names_stay_within_their_line() -> None:
    results = dict.fromkeys(made_results.HOSTILE, made_results.hostile())
    for line in ci.error_lines(results):
        assert COMMAND.fullmatch(line)
        assert len(line.splitlines()) == 1


def test_a_summary_stays_below_what_github_takes() -> None:
    hostile = made_results.hostile()
    results = {f"{k} {text}": hostile for k in range(16) for text in made_results.HOSTILE}
    text = summary(results)
    assert 2**18 < len(text.encode()) < 2**20
    assert text.endswith("The rest is cut off here: the reports hold it all.\n")


def test_thousands_of_failed_taps_are_counted_not_listed() -> None:
    many = made_results.many(1500)
    text = summary({"many": many})
    assert f"and {len(many.verdict.failed) - ci.WORST} more taps" in text
    assert len(text) < 10_000
    assert len(ci.error_lines({"many": many})) == len(many.verdict.failed)
