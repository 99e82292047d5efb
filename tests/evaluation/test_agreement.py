"""Figures that several tools agree on: pyannote.metrics, md-eval as meeteval runs it, and a count.

meeteval fetches md-eval-22.pl when it first needs it. Tests fetch nothing: they compare with what
it said, and ask it again where that file is on the PATH.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from itertools import pairwise, permutations
from pathlib import Path

import pytest

from samevoice.evaluation.corpus import Regions, read_uem
from samevoice.evaluation.scores import COLLAR, Score, judge
from samevoice.models.diarization.output import Turns, read_rttm

pytest.importorskip("pyannote.metrics")

SAME = 1e-5  # seconds: md-eval prints six decimals
COLLARS = {0.0: "strict", COLLAR: "lenient"}

# Seconds missed, false, confused and in all, as md-eval 22 gave them through meeteval 0.4.3.
MD_EVAL = {
    ("trn01", 0.0): Score(2.615, 1.695, 0, 5.752),
    ("trn01", 0.25): Score(0.369, 1.5, 0, 1.985),
    ("trn04", 0.0): Score(2.265, 2.229, 0.176, 15.206),
    ("trn04", 0.25): Score(0.427, 1.256, 0.034, 9.961),
    ("trn05", 0.0): Score(2.444, 2.117, 0.1, 26.046),
    ("trn05", 0.25): Score(0.369, 1.5, 0, 20.576),
    ("trn07", 0.0): Score(3.216, 1.613, 2.238, 15.503),
    ("trn07", 0.25): Score(0.748, 0.427, 0.287, 6.096),
    ("trn08", 0.0): Score(7.712, 3.428, 4.152, 32.785),
    ("trn08", 0.25): Score(2.059, 1.37, 1.548, 13.901),
    ("trn09", 0.0): Score(2.592, 2.663, 0, 44.047),
    ("trn09", 0.25): Score(0.721, 1.733, 0, 33.951),
}
# What is to be found in these is worked out below.
REFERENCE = Turns.of([(1, 5, "ana"), (4, 8, "bob"), (10, 12, "ana")])
FOUND = Turns.of([(0, 4.5, "x"), (4.5, 9, "y"), (10.2, 11, "y")])
SCORED: Regions = ((0, 8.5), (10, 14))


def test_by_hand() -> None:
    """Each tool says what was worked out on paper.

    x is Ana and y is Bob: they share 1 to 4.5 s and 4.5 to 8 s. Second by second:

    0-1: x alone, a false alarm. 1-4: right. 4-4.5: both speak, x is heard: Bob is missed.
    4.5-5: both speak, y is heard: Ana is missed. 5-8: right. 8-8.5: y, a false alarm; what follows
    up to 10 is not scored. 10-10.2: Ana missed. 10.2-11: y for Ana, confused. 11-12: Ana missed.

    Reference 4 + 4 + 2 = 10 s; missed 0.5 + 0.5 + 0.2 + 1 = 2.2; false alarm 1 + 0.5 = 1.5;
    confused 0.8: DER 4.5 / 10.

    With 0.25 s left out on each side of 1, 4, 5, 8, 10 and 12 s there are 0-0.75, 1.25-3.75,
    4.25-4.75, 5.25-7.75, 8.25-8.5, 10.25-11.75 and 12.25-14: reference 2.5 + 2 * 0.5 + 2.5 + 1.5 =
    7.5; missed 0.25 + 0.25 + 0.75 = 1.25; false alarm 0.75 + 0.25 = 1; confused 0.75: DER 3 / 7.5.

    JER: Ana speaks 6 s and x 4.5 s, 3.5 s of these together: 1 - 3.5 / 7. Bob speaks 4 s and y
    4 + 0.8 s, 3.5 s together: 1 - 3.5 / 5.3.
    """
    strict = Score(missed=2.2, false_alarm=1.5, confusion=0.8, total=10)
    lenient = Score(missed=1.25, false_alarm=1.0, confusion=0.75, total=7.5)
    found = judge(REFERENCE, FOUND, SCORED)
    assert seconds(found.strict) == pytest.approx(seconds(strict))
    assert seconds(found.lenient) == pytest.approx(seconds(lenient))
    assert (found.strict.der, found.lenient.der) == pytest.approx((0.45, 0.4))
    assert found.jaccard.jer == pytest.approx(((1 - 3.5 / 7) + (1 - 3.5 / 5.3)) / 2)
    assert seconds(counted(REFERENCE, FOUND, SCORED, 0.0)) == pytest.approx(seconds(strict))
    assert seconds(counted(REFERENCE, FOUND, SCORED, COLLAR)) == pytest.approx(seconds(lenient))
    theirs = pyannote(REFERENCE, FOUND, SCORED)
    assert theirs == pytest.approx((0.45, 0.4, found.jaccard.jer))


@pytest.mark.parametrize("uri", sorted({uri for uri, _ in MD_EVAL}))
def test_on_meetings_all_tools_agree(golden: Path, uri: str) -> None:
    reference, scored = meeting(golden, uri)
    for seed in range(3):
        got = perturbed(reference, seed)
        ours = judge(reference, got, scored)
        assert ours.strict.wrong > 0
        rates = ours.strict.der, ours.lenient.der, ours.jaccard.jer
        assert pyannote(reference, got, scored) == pytest.approx(rates, abs=1e-9)
        for collar, name in COLLARS.items():
            agree(counted(reference, got, scored, collar), getattr(ours, name))


@pytest.mark.parametrize(("uri", "collar"), list(MD_EVAL))
def test_on_meetings_md_eval_agrees(golden: Path, uri: str, collar: float) -> None:
    reference, scored = meeting(golden, uri)
    ours = judge(reference, perturbed(reference, 0), scored)
    agree(MD_EVAL[uri, collar], getattr(ours, COLLARS[collar]))


def test_what_was_noted_is_what_md_eval_says(golden: Path, md_eval: None) -> None:
    for (uri, collar), noted in MD_EVAL.items():
        reference, scored = meeting(golden, uri)
        agree(meeteval(reference, perturbed(reference, 0), scored, collar), noted)
    for collar, name in COLLARS.items():
        ours = getattr(judge(REFERENCE, FOUND, SCORED), name)
        agree(meeteval(REFERENCE, FOUND, SCORED, collar), ours)


def agree(theirs: Score, ours: Score) -> None:
    assert seconds(theirs) == pytest.approx(seconds(ours), abs=SAME)
    assert f"{theirs.der:.1%}" == f"{ours.der:.1%}"  # as it is shown


def seconds(score: Score) -> tuple[float, ...]:
    return score.missed, score.false_alarm, score.confusion, score.total


# The other tools ----------------------------------------------------------------------------------


@pytest.fixture
def md_eval() -> None:
    pytest.importorskip("meeteval")
    if not shutil.which("md-eval-22.pl") or not shutil.which("perl"):
        pytest.skip("no md-eval-22.pl on the PATH: meeteval would fetch it from github.com")


def meeteval(reference: Turns, got: Turns, scored: Regions, collar: float) -> Score:
    from meeteval.der import md_eval_22
    from meeteval.io import RTTM
    from meeteval.io.uem import UEM, UEMLine

    uem = UEM([UEMLine("talk", "1", start, end) for start, end in scored])
    sides = (RTTM.parse(Turns(x.turns, "talk").to_rttm()) for x in (reference, got))
    found = md_eval_22(*sides, collar=collar, uem=uem)["talk"]
    return Score(
        float(found.missed_speaker_time),
        float(found.falarm_speaker_time),
        float(found.speaker_error_time),
        float(found.scored_speaker_time),
    )


def pyannote(reference: Turns, got: Turns, scored: Regions) -> tuple[float, ...]:
    from pyannote.core import Segment, Timeline
    from pyannote.metrics.diarization import DiarizationErrorRate, JaccardErrorRate

    uem = Timeline([Segment(start, end) for start, end in scored])
    sides = reference.to_annotation(), got.to_annotation()
    metrics = DiarizationErrorRate(), DiarizationErrorRate(collar=2 * COLLAR), JaccardErrorRate()
    return tuple(float(metric(*sides, uem=uem)) for metric in metrics)


def counted(reference: Turns, got: Turns, scored: Regions, collar: float) -> Score:
    """Piece by piece between all boundaries, with every way to pair the speakers."""
    pieces = list(_pieces(reference, got, scored, collar))
    total = sum(length * len(truth) for length, truth, _ in pieces)
    missed = sum(length * max(len(truth) - len(found), 0) for length, truth, found in pieces)
    false_alarm = sum(length * max(len(found) - len(truth), 0) for length, truth, found in pieces)
    both = sum(length * min(len(found), len(truth)) for length, truth, found in pieces)
    names, theirs = reference.labels(), got.labels()
    names += [""] * (len(theirs) - len(names))
    right = max(
        sum(
            length * sum((name, one) in pairs for name in truth for one in found)
            for length, truth, found in pieces
        )
        for chosen in permutations(names, len(theirs))
        for pairs in [set(zip(chosen, theirs, strict=True))]
    )
    return Score(missed, false_alarm, both - right, total)


def _pieces(
    reference: Turns, got: Turns, scored: Regions, collar: float
) -> Iterator[tuple[float, set[str], set[str]]]:
    """How long each is, and who speaks in it by both."""
    edges = [time for start, end, _ in reference.spans for time in (start, end)]
    times = {time for region in scored for time in region}
    times |= {time for start, end, _ in got.spans for time in (start, end)}
    times |= {time + side for time in edges for side in (-collar, 0.0, collar)}
    for start, end in pairwise(sorted(times)):
        middle = (start + end) / 2
        inside = any(a < middle < b for a, b in scored)
        if inside and all(abs(middle - edge) > collar for edge in edges):
            truth, found = (
                {who for a, b, who in side.spans if a < middle < b} for side in (reference, got)
            )
            yield end - start, truth, found


# Turns to score -----------------------------------------------------------------------------------


def meeting(golden: Path, uri: str) -> tuple[Turns, Regions]:
    turns = read_rttm(golden / "ami" / "reference.rttm")[uri]
    return turns, read_uem(golden / "ami" / "reference.uem")[uri]


def perturbed(reference: Turns, seed: int) -> Turns:
    """Other names, other edges, some turns gone or given to somebody else; no one twice at once."""
    chance = random.Random(seed)
    names = reference.labels()
    turns = []
    for start, end, who in reference.spans:
        if chance.random() < 0.15:
            continue
        if chance.random() < 0.2:
            who = chance.choice(names)
        start = max(0.0, start + chance.uniform(-0.6, 0.6))
        end = max(start + 0.1, end + chance.uniform(-0.6, 0.6))
        turns.append((round(start, 3), round(end, 3), f"speaker {names.index(who)}"))
    turns.append((20.0, 21.5, "nobody"))
    return Turns.from_annotation(Turns.of(turns).to_annotation().support())
