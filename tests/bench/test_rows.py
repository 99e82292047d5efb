"""Ratios, spreads and targets, worked by hand."""

from __future__ import annotations

import pytest

from samevoice.bench.record import cells, ratio, seconds, used
from samevoice.bench.rows import Machine, Row, Series, Target, Work

OURS = Series("samevoice", (1.0, 4.0, 3.0), peak_gb=0.5)
THEIRS = Series("torch", (4.0, 8.0, 4.0), peak_gb=2.0)


def row(target: Target | None = None, theirs: Series | None = THEIRS) -> Row:
    return Row("networks", "lstm × 8", OURS, theirs, target)


def test_a_ratio_is_taken_run_by_run() -> None:
    # 1/4, 4/8, 3/4; of the medians it would be 3/4.
    assert row().ratios == (0.25, 0.5, 0.75)
    assert row().ratio == 0.5
    assert ratio(row()) == "0.5 (0.25–0.75)"


def test_contenders_with_other_numbers_of_runs_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        assert row(theirs=Series("torch", (1.0,))).ratios


@pytest.mark.parametrize(
    ("target", "figure", "met"),
    [
        (Target("ratio", 0.5), 0.5, True),
        (Target("ratio", 0.49), 0.5, False),
        (Target("over", 1.0), -1.0, True),  # 3 s beside 4 s
        (Target("seconds", 2.9), 3.0, False),
        (Target("memory", 0.5), 0.5, True),
        (None, None, None),
    ],
)
def test_a_target_is_about_one_figure(
    target: Target | None, figure: float | None, met: bool | None
) -> None:
    assert row(target).figure == figure
    assert row(target).met is met


def test_what_was_not_measured_meets_nothing() -> None:
    alone = row(Target("ratio", 1.0), theirs=None)
    assert alone.ratio is None
    assert alone.met is None
    assert (
        Row("growth", "1 min", Series("samevoice", (1.0,)), target=Target("memory", 2)).met is None
    )


def test_figures_are_told_with_three_digits() -> None:
    assert [seconds(x) for x in (0.01234, 0.9876, 1.2345, 98.76, 123.4)] == [
        "0.0123",
        "0.988",
        "1.23",
        "98.76",
        "123",
    ]


def test_a_line_holds_what_there_is() -> None:
    line = cells(row(Target("ratio", 0.4)))
    assert line == (
        "lstm × 8",
        "torch",
        "4.00",
        "3.00",
        "0.5 (0.25–0.75)",
        "2.00 → 0.50 GB",
        "≤ 0.4 ✗",
        *[""] * 7,
    )
    alone = cells(Row("start", "samevoice --help", Series("samevoice", (0.2,))))
    assert alone == ("samevoice --help", "", "", "0.2", *[""] * 10)
    assert used([alone]) == [0, 3]


def test_work_is_set_beside_what_the_machine_can_do() -> None:
    """In 40 ms: 2 GFLOP, which it does in 20 ms, and 300 MB, which it moves in 30."""
    machine = Machine(flops=1e11, bandwidth=1e10)
    spent = Series("samevoice", (0.04,))
    near = Row("limits", "  lstm", spent, work=Work(2e9, 3e8, 0.125, machine))
    assert cells(near)[7:] == ("40.00", "12.5%", "2.00", "300.0", "50", "50%", "memory 75%")
    far = Row("limits", "  lstm", spent, work=Work(2e9, 1e8, 0.125, machine))
    assert cells(far)[-1] == "compute 50%"
    none = Row("limits", "  counting", spent, work=Work(0, 0, 0.125, machine))
    assert cells(none)[7:] == ("40.00", "12.5%", *[""] * 5)
    assert near.as_dict()["work"]["machine"] == {"flops": 1e11, "bandwidth": 1e10}


def test_json_holds_every_run() -> None:
    found = row(Target("ratio", 0.4)).as_dict()
    assert found["samevoice"]["seconds"] == [1.0, 4.0, 3.0]
    assert found["beside"]["who"] == "torch"
    assert found["ratios"] == [0.25, 0.5, 0.75]
    assert found["target"] == {"kind": "ratio", "most": 0.4, "met": False}
