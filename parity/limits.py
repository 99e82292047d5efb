"""What the figures may be, and why: one table.

A limit holds at every tap, at the outputs, for one named tap, or for the task as a whole. At an
output the tap limits hold too, unless an output limit of the same metric replaces them; a limit for
a named tap replaces both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, TypeAlias, get_args

from samevoice.parity.bounds import MANY, Limit, LimitsError, Override, Where, overridden
from samevoice.parity.metrics import FLOAT32_NOISE, FLOAT32_ROUNDOFF

Family: TypeAlias = Literal["segmentation", "embedding", "full", "fast", "generic", "dump"]
Dtype: TypeAlias = Literal["float32", "float16", "bfloat16", "q8", "q4"]
Device: TypeAlias = Literal["cpu", "metal", "cuda", "metal-tf32", "cuda-tf32"]

ALL_FAMILIES: tuple[Family, ...] = get_args(Family)
ALL_DTYPES: tuple[Dtype, ...] = get_args(Dtype)
ALL_DEVICES: tuple[Device, ...] = get_args(Device)
TF32_DEVICES: tuple[Device, ...] = ("metal-tf32", "cuda-tf32")
ALONE: tuple[Family, ...] = ("segmentation", "embedding", "generic")
WHOLE: tuple[Family, ...] = ("full",)
NETWORKS = (*ALONE, *WHOLE)
VOICES: tuple[Family, ...] = ("embedding",)
DECIDING: tuple[Family, ...] = ("segmentation", *WHOLE)


@dataclass(frozen=True)
class Row:
    """A limit, and the model families and precisions it is for."""

    families: tuple[Family, ...]
    precision: Precision
    limit: Limit


@dataclass(frozen=True)
class Precision:
    """A way to store or multiply numbers, and the relative error that one rounding makes."""

    name: str
    step: float
    roundings: int
    derivation: str

    @property
    def times_float32(self) -> float:
        return self.step / FLOAT32_ROUNDOFF

    @property
    def at_output(self) -> float:
        """Relative RMS error to expect at an output: roundings add up as a random walk, times 2."""
        return 2.0 * math.sqrt(self.roundings) * self.step


# Fewer than 64 rounded layers lie between waveform and output (ResNet34 has 36 convolutions);
# nn.quantize reaches Linear layers only, at most 4 on any path.
LAYERS, QUANTISED_LAYERS = 64, 4
# An affine step is the group's range over 2^bits - 1, its RMS error the step over sqrt(12); the
# range of 64 normal values is about 4.8 standard deviations.
NORMAL_RANGE_OF_64 = 4.8

FLOAT32 = Precision("float32", FLOAT32_ROUNDOFF, LAYERS, "24 significant bits")
FLOAT16 = Precision("float16", 2.0**-11, LAYERS, "11 significant bits")
BFLOAT16 = Precision("bfloat16", 2.0**-8, LAYERS, "8 significant bits")
TF32 = Precision("tf32", 2.0**-11, LAYERS, "factors of 11 significant bits, float32 sums")
Q8 = Precision(
    "q8", NORMAL_RANGE_OF_64 / 255 / math.sqrt(12), QUANTISED_LAYERS, "255 steps a group of 64"
)
Q4 = Precision(
    "q4", NORMAL_RANGE_OF_64 / 15 / math.sqrt(12), QUANTISED_LAYERS, "15 steps a group of 64"
)


def precision_of(dtype: Dtype, device: Device) -> Precision:
    """What limits the arithmetic: TF32 caps float32, every coarser type stays what it is."""
    if dtype == "float32":
        return TF32 if device in TF32_DEVICES else FLOAT32
    return {"float16": FLOAT16, "bfloat16": BFLOAT16, "q8": Q8, "q4": Q4}[dtype]


FLOAT32_LIMITS: tuple[Row, ...] = (
    Row(
        NETWORKS,
        FLOAT32,
        Limit(
            "noise_ratio",
            3.0,
            "float32 evaluations of one network differ by up to 2, small taps by a little more",
        ),
    ),
    Row(
        NETWORKS,
        FLOAT32,
        Limit(
            "noise_ratio",
            2.0,
            "right ports measured 0.1 to 1.2 at their outputs, wrong ones thousands",
            "output",
        ),
    ),
    Row(
        NETWORKS,
        FLOAT32,
        Limit(
            "cosine_min",
            0.999999,
            "float32 noise leaves 1 - 1e-8; this still catches one bad row among millions",
            "output",
        ),
    ),
    Row(
        DECIDING,
        FLOAT32,
        Limit(
            "decision_agreement",
            0.999,
            "only decisions within the noise may flip, and few of them: of the reference network's "
            "scores 9 % lie that near each other, and 0.02 % flipped; of a trained one's 0.05 %, "
            "and none did",
            "task",
        ),
    ),
    Row(
        VOICES,
        FLOAT32,
        Limit(
            "embedding_cosine_min",
            0.999999,
            "each voice must come out as itself; float32 noise leaves 1 - 1e-8",
            "task",
        ),
    ),
    Row(
        VOICES,
        FLOAT32,
        Limit(
            "kendall_tau",
            1.0,
            "who sounds most like whom may not change; ties within the noise do not count",
            "task",
        ),
    ),
    Row(
        ("dump",),
        FLOAT32,
        Limit(
            "noise_ratio",
            1000.0,
            "without a truth the unit is the rounding of the reference itself: two right float32 "
            "evaluations of a deep network lie about 100 apart (errors of 2.1e-6 and 3.0e-6 "
            "against 3.4e-8), a wrong one over 100,000; this is between, at 3e-5 of the scale",
        ),
    ),
)


def _derived_rows(precision: Precision) -> Iterator[Row]:
    """Where nothing was measured: the float32 rows, by how much coarser one rounding is."""
    how = (
        f"DERIVED, not measured: {precision.derivation}, so one rounding errs by "
        f"{precision.step:.3g} against 2^-24 in float32"
    )
    error = precision.at_output
    walk = f"{how}; over {precision.roundings} layers, doubled, {error:.3g} at the output"
    bounds = {
        # cos of a vector with a relative error r at right angles is 1 - r^2 / 2.
        "cosine_min": (1 - error**2 / 2, f"{walk}, and half its square off 1"),
        "embedding_cosine_min": (1 - error**2 / 2, f"{walk}, and half its square off 1"),
        # A margin spread no more narrowly than evenly over its RMS is below r of it for a share r.
        "decision_agreement": (1 - error, f"{walk}, the share of margins it can turn"),
        "kendall_tau": (1 - 2 * error, f"{walk}; a turned pair counts twice in tau"),
    }
    for row in FLOAT32_LIMITS:
        bound, why = row.limit.bound * precision.times_float32, f"{how}; the float32 limit times it"
        if row.families == ("dump",):
            bound, why = 2 * error / FLOAT32_NOISE, f"{walk}, on each side, in float32 roundings"
        bound, why = bounds.get(row.limit.metric, (bound, why))
        yield Row(row.families, precision, replace(row.limit, bound=bound, why=why))


@dataclass(frozen=True)
class Measured:
    """The worst that right ports came to in one precision: noise ratios, and cosine at outputs.

    Over both reference networks, the trained segmentation and the fitted embedding, on a CPU, on
    2026-11-21 (docs/limits.md).
    """

    precision: Precision
    tap: float
    output: float
    cosine: float


MEASURED = (
    Measured(FLOAT16, 1.3e4, 5.7e3, 0.99969),
    Measured(BFLOAT16, 4.5e5, 4.5e5, 0.9585),
    Measured(Q8, 1.1e5, 1.1e5, 0.99993),
    Measured(Q4, 1.8e6, 1.2e6, 0.976),
)
TAP: Where = "tap"
AT_OUTPUT: Where = "output"
# How much more than the worst that was measured still counts as rounding.
MARGIN = 3.0

# In other precisions than float32 frames at the edges of turns are decided otherwise.
COARSE_DER = 0.01
COARSE_DER_WHY = (
    "a hundredth of the speech: on a trained segmentation float16 cost 0.07 and 0.36 %, 8 bits "
    "0.14 and 0.60 %, all of it at the edges of turns; a system whose embeddings drifted lost 20"
)

# A coarse bundle may be released where it does the task as well: these are the same for all of
# them, so that the gate, not the type's name, says which may be.
COARSE_TASK: tuple[tuple[Family, str, float, str], ...] = (
    (
        "full",
        "decision_agreement",
        0.995,
        "as for the segmentation alone, of which these are the decisions",
    ),
    (
        "full",
        "der",
        COARSE_DER,
        COARSE_DER_WHY,
    ),
    (
        "segmentation",
        "decision_agreement",
        0.995,
        "an int8 export of segmentation-3.0 that is in use keeps 99.2 to 99.4 % of its decisions; "
        "on trained weights float16 and 8 bits keep 0.9997, bfloat16 0.9975, 4 bits 0.982",
    ),
    (
        "embedding",
        "embedding_cosine_min",
        0.999,
        "a voice must stay itself: measured 8 bits 0.9999, float16 0.9997, bfloat16 0.991, 4 bits "
        "0.980; embeddings that drifted have made up speakers",
    ),
    (
        "embedding",
        "similarity_gap",
        0.02,
        "clustering decides near a cosine of 0.82, and voices differ there by tenths: measured "
        "8 bits 0.001, float16 0.018, 4 bits 0.056, bfloat16 0.084",
    ),
    (
        "embedding",
        "kendall_tau",
        0.95,
        "one pair in forty may change places among near equals: float16 measured 0.988, 8 bits "
        "0.999, 4 bits 0.969, bfloat16 0.917",
    ),
    (
        "embedding",
        "eer_gap",
        0.005,
        "half a percent of wrong pairs: float16 measured 0.002, 4 bits 0.005, bfloat16 0.007",
    ),
)


def _measured_rows(one: Measured) -> Iterator[Row]:
    """Figures catch a layer gone wrong; whether the rounding is bearable, the task says."""
    how = f"{MARGIN:g} times the worst of right ports"
    cosine = 1 - MARGIN * (1 - one.cosine)
    for metric, bound, worst, where in (
        ("noise_ratio", MARGIN * one.tap, one.tap, TAP),
        ("noise_ratio", MARGIN * one.output, one.output, AT_OUTPUT),
        ("cosine_min", cosine, one.cosine, AT_OUTPUT),
    ):
        why = f"{how} in {one.precision.name}, which was {worst:g}"
        # A whole recording holds frames that are nearly a tie: there the DER says what it costs.
        families = ALONE if metric == "cosine_min" else NETWORKS
        yield Row(families, one.precision, Limit(metric, bound, why, where))
    for family, metric, bound, why in COARSE_TASK:
        yield Row((family,), one.precision, Limit(metric, bound, why, "task"))
    yield from (row for row in _derived_rows(one.precision) if row.families == ("dump",))


# Stages of the pipeline on the host, which work in float64 whatever the networks do: the same in
# every precision. Fed with pyannote's input of that stage they must give what pyannote gives.
SAME = "zeros and ones, counts and clusters: there is nothing to round"
PEER = "float64 sums in another order differ by far less; a careful peer holds the same"
HOST: tuple[tuple[str, str, float, str], ...] = (
    ("masks", "max_abs", 0.0, SAME),
    ("count", "max_abs", 0.0, SAME),
    ("weights", "max_abs", 0.0, SAME),
    ("trained", "max_abs", 0.0, SAME),
    ("ahc", "max_abs", 0.0, SAME),
    ("xvectors", "max_abs", 1e-5, PEER),
    ("plda", "max_abs", 1e-4, PEER),
    ("phi", "max_abs", 1e-4, PEER),
    ("gamma", "max_abs", 1e-12, PEER),
    ("pi", "max_abs", 1e-9, PEER),
    ("elbo", "max_abs", 1e-9, PEER),
    ("centroids", "max_abs", 1e-9, PEER),
    ("similarity", "max_abs", 1e-9, PEER),
    ("hard", "max_abs", 0.0, SAME),
    ("discrete", "max_abs", 0.0, SAME),
    ("exclusive", "max_abs", 0.0, SAME),
    ("turns", "max_abs", 0.0, "the same frames' middles by the same operations"),
    ("exclusive_turns", "max_abs", 0.0, "the same frames' middles by the same operations"),
    ("voices", "max_abs", 0.0, "centroids in the order of the labels: only their order can differ"),
)


def _pipeline_rows(networks: Sequence[Row]) -> Iterator[Row]:
    """What holds for a whole pipeline beside the rows of its networks."""
    family = WHOLE
    for precision in (FLOAT32, TF32, *(one.precision for one in MEASURED)):
        for tap, metric, bound, why in HOST:
            yield Row(family, precision, Limit(metric, bound, why, tap=tap))
    for row in networks:
        if row.limit.where == "output" and set(VOICES) <= set(row.families):
            # Where anybody speaks, these are an output of a network, too.
            yield Row(family, row.precision, replace(row.limit, where="tap", tap="embeddings"))
    yield Row(
        DECIDING,
        FLOAT32,
        Limit(
            "agreement_beyond_noise",
            1.0,
            "a decision that float32 can make may not flip",
            "task",
        ),
    )
    yield Row(
        family,
        FLOAT32,
        Limit(
            "unexplained_der",
            0.0,
            "who speaks when is the same, unless a decision lay within the noise of float32",
            "task",
        ),
    )
    yield Row(family, TF32, Limit("der", COARSE_DER, COARSE_DER_WHY, "task"))


NETWORK_LIMITS: tuple[Row, ...] = (
    *FLOAT32_LIMITS,
    *_derived_rows(TF32),
    *(row for one in MEASURED for row in _measured_rows(one)),
)
EXACT_LIMITS: tuple[Row, ...] = (*NETWORK_LIMITS, *_pipeline_rows(NETWORK_LIMITS))

# The fast configuration of a pipeline gives other embeddings on purpose. All before and behind them
# keeps the exact one's limits; these are in place of "who speaks when is the same". Measured on
# 2026-11-21 on a CPU, with fitted embeddings, which are touchier than trained ones (docs/fast.md).
SHARED: tuple[tuple[str, float, str], ...] = (
    (
        "shared_cosine_median",
        0.97,
        "half of the voices at least this near the exact ones: measured 0.985 to 0.988 on three "
        "recordings, and twice as far from 1 is allowed",
    ),
    (
        "shared_cosine_min",
        0.5,
        "of the voices that are clustered: measured 0.75 to 0.96, the worst a voice of two "
        "seconds, and twice as far from 1 is allowed",
    ),
    (
        "der",
        0.02,
        "two hundredths of the speech: measured 0, 0 and 0.7 %; a speaker made up or lost costs "
        "ten times that",
    ),
)


def _fast_rows(rows: Sequence[Row]) -> Iterator[Row]:
    """In every precision: voices are compared with the same port's exact ones."""
    family: tuple[Family, ...] = ("fast",)
    exact = [row for row in rows if set(WHOLE) <= set(row.families)]
    for row in exact:
        if row.limit.metric not in ("unexplained_der", "der"):
            yield replace(row, families=family)
    for precision in dict.fromkeys(row.precision for row in exact):
        for metric, bound, why in SHARED:
            yield Row(family, precision, Limit(metric, bound, why, "task"))


LIMITS: tuple[Row, ...] = (*EXACT_LIMITS, *_fast_rows(EXACT_LIMITS))

# A set of limits ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Limits:
    """All limits that one comparison is judged by."""

    family: Family
    dtype: Dtype
    device: Device
    limits: tuple[Limit, ...]

    def at(self, tap: str, *, output: bool, values: int = MANY) -> dict[str, Limit]:
        """Metric -> the limit that holds at this tap, which has so many values.

        Few values widen the default bounds; one that was set by hand holds as it was set.
        """
        chosen = {one.metric: one for one in self.limits if one.where == "tap" and one.tap is None}
        if output:
            chosen |= {one.metric: one for one in self.limits if one.where == "output"}
        chosen |= {one.metric: one for one in self.limits if one.tap == tap}
        usual = {one.place for one in limits_for(self.family, self.dtype, self.device).limits}
        return {
            metric: one.for_values(values) if one.place in usual else one
            for metric, one in chosen.items()
        }

    @property
    def for_task(self) -> dict[str, Limit]:
        return {one.metric: one for one in self.limits if one.where == "task"}

    @property
    def named_taps(self) -> set[str]:
        return {one.tap for one in self.limits if one.tap is not None}

    def overridden(self, overrides: Iterable[Override]) -> Limits:
        """These limits with some replaced; later overrides win over earlier ones."""
        limits = self
        for one in overrides:
            limits = replace(limits, limits=overridden(limits.limits, one))
        return limits


@cache
def limits_for(family: str, dtype: str, device: str) -> Limits:
    """The default limits; "dump" is the family of two dumps that are compared without a truth."""
    if family not in ALL_FAMILIES:
        raise LimitsError(f"unknown model family {family!r}: one of {', '.join(ALL_FAMILIES)}")
    if dtype not in ALL_DTYPES:
        raise LimitsError(f"unknown dtype {dtype!r}: one of {', '.join(ALL_DTYPES)}")
    if device not in ALL_DEVICES:
        raise LimitsError(f"unknown device {device!r}: one of {', '.join(ALL_DEVICES)}")
    precision = precision_of(dtype, device)
    rows = [row for row in LIMITS if family in row.families and row.precision == precision]
    return Limits(family, dtype, device, tuple(row.limit for row in rows))
