"""An evaluation as a page, as Markdown for a pull request, and as JUnit for CI.

Every name comes from outside; how each form escapes it is ``rendering``'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from samevoice import __version__
from samevoice.evaluation import figures, shown
from samevoice.evaluation.evaluated import DRAWN, LABELS, Evaluation, points
from samevoice.evaluation.scores import COLLAR, JACCARD, STRICT
from samevoice.reports.details import Fact, Facts
from samevoice.reports.junit import Case, Suite, suites_of
from samevoice.reports.page import framed
from samevoice.reports.plots.evaluation import AGAINST, ders, lanes
from samevoice.reports.rendering import rendered
from samevoice.reports.words import UNSAID

LISTED = 2000  # in the page's table
SHORT = 10  # in the Markdown's
FAILED = 200
HASHES = ("fingerprint", "origin", "parts", "sha256")
Rows = list[list[str]]


def html(made: Evaluation) -> str:
    """The page, which needs nothing else."""
    plots = [ders.tried(made), lanes.tried(made, made.worst[:DRAWN])]
    return framed("evaluation.html", plots=plots, **_content(made, made.worst[:LISTED]))


def markdown(made: Evaluation) -> str:
    return rendered("evaluation.md", **_content(made, made.worst[:SHORT]))


def junit(made: Evaluation) -> str:
    return suites_of([suite(made)])


def suite(made: Evaluation) -> Suite:
    """A case for each recording; one that failed is an error."""
    cases = [_case(made, said) for said in made.recording_rows]
    cases += [Case(uri, (why,)) for uri, why in made.failed.items()]
    names = " and ".join(one.name for one in made.systems)
    properties = [
        ("answer", made.answer),
        ("samevoice", __version__),
        *(
            (f"{label}.{key}", _word(value))
            for label, one in zip(LABELS, made.systems, strict=False)
            for key, value in {"name": one.name, **one.made_of}.items()
        ),
    ]
    name = f"{made.corpus.name}: {names}"
    return Suite(name, "evaluation", "evaluate", properties, cases, "error")


def _case(made: Evaluation, said: Mapping[str, Any]) -> Case:
    """With the figures of the page's table, and how long it took where that is known."""
    cells = list(zip(_heads(made), _cells(made, said), strict=True))
    took = [said[x]["seconds"] for x in LABELS if x in said and said[x]["seconds"] is not None]
    figures = ", ".join(f"{head} {cell}" for head, cell in cells[1:])
    return Case(said["uri"], figures=figures, seconds=sum(took) if took else None)


def _content(made: Evaluation, order: list[int]) -> dict[str, Any]:
    """What both forms say; only these recordings are listed."""
    head, found, rest = made.answer.partition(": ")
    return {
        "state": {True: "good", False: "bad", None: "even"}[made.is_good],
        "headline": f"{head}." if found else head,
        "because": rest[:1].upper() + rest[1:],
        "corpus": made.corpus.name,
        "count": len(made.recordings),
        "systems": list(zip(LABELS, (one.name for one in made.systems), strict=False)),
        "order": _order_words(made),
        "tiles": list(_tiles(made)),
        "columns": shown.columns(made),
        "figures": shown.figures(made),
        "groups": shown.groups(made),
        "heads": _heads(made),
        "recordings": [_cells(made, made.recording_rows[at]) for at in order],
        "compared": [*_systems(made), _corpus(made), _conventions()],
        "failed": list(made.failed.items())[:FAILED],
        "failures": len(made.failed),
    }


def _order_words(made: Evaluation) -> str:
    if not made.is_pair:
        return "the highest DER first"
    return "the largest change first" if made.corpus.referenced else "the furthest apart first"


# The figures at the top ---------------------------------------------------------------------------


def _tiles(made: Evaluation) -> Iterator[Mapping[str, Any]]:
    """Three figures: what each is, its value, and how sure it is."""
    if made.corpus.referenced:
        for label, one in zip(LABELS, made.by_system, strict=False):
            name = f"DER of {label}" if made.is_pair else "DER"
            yield _tile(name, f"{one[STRICT]['micro']['value']:.1%}", one[STRICT]["micro"])
    if made.pair and made.pair["change"]:
        change = made.pair["change"][STRICT]["micro"]
        value = f"{points(change['value'])} points"
        wrong = made.is_good is False
        yield _tile("DER of B less that of A", value, change, points, good=not wrong)
    elif made.pair:
        apart = made.pair["disagreement"]["micro"]
        yield _tile("DER of B scored against A", f"{apart['value']:.1%}", apart)
        differ = sum(one.wrong > 0 for one in made.disagreements)
        yield _tile("recordings that differ", f"{differ} of {len(made.recordings)}")
        most = max(one.der for one in made.disagreements)
        yield _tile("furthest apart", f"{most:.1%}", means="the recording that differs most")
    else:
        (one,) = made.by_system
        yield _tile("JER", f"{one[JACCARD]['micro']['value']:.1%}", one[JACCARD]["micro"])
        right = f"{one['speakers_right']} of {one['recordings']}"
        yield _tile("speakers right", right, means="recordings with the right number of speakers")


def _tile(
    name: str,
    value: str,
    interval: Mapping[str, Any] | None = None,
    show: Any = "{:.1%}".format,
    *,
    means: str = "",
    good: bool = True,
) -> Mapping[str, Any]:
    if interval and interval["low"] is not None:
        means = f"95% interval {show(interval['low'])} to {show(interval['high'])}"
    return {"name": name, "value": value, "means": means, "good": good}


# Recordings ---------------------------------------------------------------------------------------


def _heads(made: Evaluation) -> list[str]:
    labels = LABELS[: len(made.systems)]
    if not made.corpus.referenced:
        return ["recording", "seconds", *(f"speakers {x}" for x in labels), AGAINST]
    if made.is_pair:
        ders = ["DER A", "DER B", "B - A", "JER A", "JER B"]
        return ["recording", "seconds", "speakers", "found A", "found B", *ders, AGAINST]
    parts = ["DER", "missed", "false alarm", "confusion", "0.25 s collar", "JER"]
    return ["recording", "seconds", "speakers", "found", *parts]


def _cells(made: Evaluation, said: Mapping[str, Any]) -> list[str]:
    """A recording's figures, as ``_heads`` names them."""
    sides = [said[label] for label in LABELS if label in said]
    cells = [said["uri"], f"{said['duration']:.1f}"]
    if made.corpus.referenced:
        cells.append(str(said["speakers"]))
    cells += [str(one["speakers"]) for one in sides]
    if made.corpus.referenced and made.is_pair:
        a, b = (one["der"]["der"] for one in sides)
        cells += [f"{a:.1%}", f"{b:.1%}", points(b - a), *(_jer(one) for one in sides)]
    elif made.corpus.referenced:
        (one,) = sides
        total = one["der"]["total"]
        parts = (one["der"][name] for name in ("missed", "false_alarm", "confusion"))
        shares = [f"{part / total:.1%}" if total else UNSAID for part in parts]
        cells += [f"{one['der']['der']:.1%}", *shares]
        cells += [f"{one['der_collar']['der']:.1%}", _jer(one)]
    if made.is_pair:
        cells.append(f"{said['disagreement']['der']:.1%}")
    return cells


def _jer(side: Mapping[str, Any]) -> str:
    return f"{side['jer']['jer']:.1%}"


# What was compared --------------------------------------------------------------------------------


def _systems(made: Evaluation) -> Iterator[Facts]:
    for label, one in zip(LABELS, made.systems, strict=False):
        made_of = (Fact(name, _word(value), name in HASHES) for name, value in one.made_of.items())
        yield Facts(label, (Fact("name", one.name, True), *made_of))


def _word(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {str(one)[:12]}" for name, one in value.items())
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


def _corpus(made: Evaluation) -> Facts:
    said = made.about
    every = said["recordings"] + len(made.failed)
    facts = {
        "name": said["name"],
        "sha256": said["sha256"],
        "recordings": f"{every:,}" + (f", {len(made.failed):,} failed" if made.failed else ""),
        "references": _word(said["references"]),
        "with UEM": f"{said['uems']:,}; without one, all is scored",
        "length": _length(said["duration"]),
        "scored": _length(said["scored"]),
    }
    return Facts(
        "Corpus", tuple(Fact(name, value, name in HASHES) for name, value in facts.items())
    )


def _length(seconds: float) -> str:
    return f"{seconds / 3600:.2f} h" if seconds >= 3600 else f"{seconds:.1f} s"


def _conventions() -> Facts:
    facts = {
        "DER, JER": "no collar, overlap scored",
        "with collar": f"{COLLAR:g} s on each side of a boundary",
        "speakers": "their number is not told",
        "first line": "all errors over all speech",
        "macro": "the mean of the recordings' rates",
        "intervals": f"{figures.LEVEL:.0%}, recordings drawn again {figures.RESAMPLINGS:,} times",
    }
    return Facts("Conventions", tuple(Fact(name, value) for name, value in facts.items()))
