"""What the figures may be, and why: one table.

A limit holds at every tap, at the outputs, for one named tap, or for the task as a whole. At an
output the tap limits hold too, unless an output limit of the same metric replaces them; a limit for
a named tap replaces both.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Literal, TypeAlias, get_args

from samevoice.parity.bounds import (
    AT_LEAST,
    MANY,
    METRICS,
    Limit,
    LimitsError,
    Override,
    Where,
)
from samevoice.parity.metrics import FLOAT32_NOISE, FLOAT32_ROUNDOFF

Family: TypeAlias = Literal[
    "segmentation", "embedding", "network", "full", "fast", "generic", "dump"
]
Dtype: TypeAlias = Literal[
    "float32", "float16", "bfloat16", "q8", "q6", "q4", "mixed-8", "mixed-6", "mixed-4"
]
Device: TypeAlias = Literal["cpu", "metal", "cuda", "metal-tf32", "cuda-tf32"]

ALL_FAMILIES: tuple[Family, ...] = get_args(Family)
ALL_DTYPES: tuple[Dtype, ...] = get_args(Dtype)
ALL_DEVICES: tuple[Device, ...] = get_args(Device)
TF32_DEVICES: tuple[Device, ...] = ("metal-tf32", "cuda-tf32")
ALONE: tuple[Family, ...] = ("segmentation", "embedding", "network", "generic")
WHOLE: tuple[Family, ...] = ("full",)
NETWORKS = (*ALONE, *WHOLE)
VOICES: tuple[Family, ...] = ("embedding",)
DECIDING: tuple[Family, ...] = ("segmentation", *WHOLE)


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


def _packed(name: str, bits: int, layers: int) -> Precision:
    steps = 2**bits - 1
    error = NORMAL_RANGE_OF_64 / steps / math.sqrt(12)
    return Precision(name, error, layers, f"{steps} steps a group of 64")


Q8, Q6, Q4 = (_packed(f"q{bits}", bits, QUANTISED_LAYERS) for bits in (8, 6, 4))
# By a recipe convolutions and LSTMs are packed, too; named for the fewest bits in it.
MIXED_8, MIXED_6, MIXED_4 = (_packed(f"mixed-{bits}", bits, LAYERS) for bits in (8, 6, 4))
PRECISIONS = {one.name: one for one in (FLOAT16, BFLOAT16, Q8, Q6, Q4, MIXED_8, MIXED_6, MIXED_4)}


def precision_of(dtype: Dtype, device: Device) -> Precision:
    """What limits the arithmetic: TF32 caps float32, every coarser type stays what it is."""
    if dtype == "float32":
        return TF32 if device in TF32_DEVICES else FLOAT32
    return PRECISIONS[dtype]


@dataclass(frozen=True)
class Row:
    """A limit, and the model families and precisions it is for."""

    families: tuple[Family, ...]
    precision: Precision
    limit: Limit


def _for(
    families: tuple[Family, ...], metric: str, bound: float, where: Where, why: str
) -> tuple[tuple[Family, ...], Limit]:
    return families, Limit(metric, bound, why, where)


FLOAT32_LIMITS = tuple(Row(families, FLOAT32, limit) for families, limit in (
    _for(NETWORKS, "noise_ratio", 3.0, "tap",
         "float32 evaluations of one network differ by up to 2, small taps by a little more"),
    _for(NETWORKS, "noise_ratio", 2.0, "output",
         "right ports measured 0.1 to 1.2 at their outputs, wrong ones thousands"),
    _for(NETWORKS, "cosine_min", 0.999999, "output",
         "float32 noise leaves 1 - 1e-8; this still catches one bad row among millions"),
    _for(DECIDING, "decision_agreement", 0.999, "task",
         "only decisions within the noise may flip, and few of them: of the reference network's "
         "scores 9 % lie that near each other, and 0.02 % flipped; of a trained one's 0.05 %, "
         "and none did"),
    _for(VOICES, "embedding_cosine_min", 0.999999, "task",
         "each voice must come out as itself; float32 noise leaves 1 - 1e-8"),
    _for(VOICES, "kendall_tau", 1.0, "task",
         "who sounds most like whom may not change; ties within the noise do not count"),
    _for(("dump",), "noise_ratio", 1000.0, "tap",
         "without a truth the unit is the rounding of the reference itself: two right float32 "
         "evaluations of a deep network lie about 100 apart (errors of 2.1e-6 and 3.0e-6 "
         "against 3.4e-8), a wrong one over 100,000; this is between, at 3e-5 of the scale"),
))  # fmt: skip


def _derived_rows(precision: Precision, rows: Iterable[Row] = FLOAT32_LIMITS) -> Iterator[Row]:
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
    for row in rows:
        bound, why = row.limit.bound * precision.times_float32, f"{how}; the float32 limit times it"
        if row.families == ("dump",):
            bound, why = 2 * error / FLOAT32_NOISE, f"{walk}, on each side, in float32 roundings"
        bound, why = bounds.get(row.limit.metric, (bound, why))
        yield Row(row.families, precision, replace(row.limit, bound=bound, why=why))


@dataclass(frozen=True)
class Measured:
    """The worst that right ports came to in one precision: noise ratios, and cosine at outputs.

    Over both reference networks, the trained segmentation and the fitted embedding, on a CPU, on
    2026-11-21 (docs/limits.md); 6 bits and mixed precision on 2026-11-27, and over
    the open models, too.
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
    Measured(Q6, 5.7e5, 2.3e5, 0.946),
    # All layers of so many bits, which a recipe can do no worse than. In 4 bits the trained CAM++,
    # which then hears nothing, is left out of the cosine.
    Measured(MIXED_8, 1.7e5, 9.2e4, 0.980),
    Measured(MIXED_6, 5.7e5, 2.5e5, 0.916),
    Measured(MIXED_4, 2.7e6, 1.1e6, 0.586),
)
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
COARSE_TASK = (
    _for(WHOLE, "decision_agreement", 0.995, "task",
         "as for the segmentation alone, of which these are the decisions"),
    _for(WHOLE, "der", COARSE_DER, "task", COARSE_DER_WHY),
    _for(("segmentation",), "decision_agreement", 0.995, "task",
         "an int8 export of segmentation-3.0 that is in use keeps 99.2 to 99.4 % of its decisions; "
         "on trained weights float16 and 8 bits keep 0.9997, bfloat16 0.9975, 4 bits 0.982"),
    _for(VOICES, "embedding_cosine_min", 0.999, "task",
         "a voice must stay itself: measured 8 bits 0.9999, float16 0.9997, bfloat16 0.991, 4 bits "
         "0.980; embeddings that drifted have made up speakers"),
    _for(VOICES, "similarity_gap", 0.02, "task",
         "clustering decides near a cosine of 0.82, and voices differ there by tenths: measured "
         "8 bits 0.001, float16 0.018, 4 bits 0.056, bfloat16 0.084"),
    _for(VOICES, "kendall_tau", 0.95, "task",
         "one pair in forty may change places among near equals: float16 measured 0.988, 8 bits "
         "0.999, 4 bits 0.969, bfloat16 0.917"),
    _for(VOICES, "eer_gap", 0.005, "task",
         "half a percent of wrong pairs: float16 measured 0.002, 4 bits 0.005, bfloat16 0.007"),
)  # fmt: skip


def _measured_rows(one: Measured) -> Iterator[Row]:
    """Figures catch a layer gone wrong; whether the rounding is bearable, the task says."""

    def why(worst: float) -> str:
        name = one.precision.name
        return f"{MARGIN:g} times the worst of right ports in {name}, which was {worst:g}"

    cosine = 1 - MARGIN * (1 - one.cosine)
    for families, limit in (
        _for(NETWORKS, "noise_ratio", MARGIN * one.tap, "tap", why(one.tap)),
        _for(NETWORKS, "noise_ratio", MARGIN * one.output, "output", why(one.output)),
        # A whole recording holds frames that are nearly a tie: there the DER says what it costs.
        _for(ALONE, "cosine_min", cosine, "output", why(one.cosine)),
        *COARSE_TASK,
    ):
        yield Row(families, one.precision, limit)
    yield from _derived_rows(one.precision, [x for x in FLOAT32_LIMITS if x.families == ("dump",)])


# Stages of the pipeline on the host, which work in float64 whatever the networks do: the same in
# every precision. Fed with pyannote's input of that stage they must give what pyannote gives.
SAME = "zeros and ones, counts and clusters: there is nothing to round"
PEER = "float64 sums in another order differ by far less; a careful peer holds the same"
SAME_TIMES = "the same frames' middles by the same operations"
HOST: tuple[tuple[str, float, str], ...] = (
    ("masks count weights trained ahc", 0.0, SAME),
    ("xvectors", 1e-5, PEER),
    ("plda phi", 1e-4, PEER),
    ("gamma", 1e-12, PEER),
    ("pi elbo centroids similarity", 1e-9, PEER),
    ("hard discrete exclusive", 0.0, SAME),
    ("turns exclusive_turns", 0.0, SAME_TIMES),
    ("voices", 0.0, "centroids in the order of the labels: only their order can differ"),
)
PIPELINE_LIMITS = (
    _for(DECIDING, "agreement_beyond_noise", 1.0, "task",
         "a decision that float32 can make may not flip"),
    _for(WHOLE, "unexplained_der", 0.0, "task",
         "who speaks when is the same, unless a decision lay within the noise of float32"),
)  # fmt: skip


def _pipeline_rows(networks: Sequence[Row]) -> Iterator[Row]:
    """What holds for a whole pipeline beside the rows of its networks."""
    for precision in (FLOAT32, TF32, *(one.precision for one in MEASURED)):
        for taps, bound, why in HOST:
            for tap in taps.split():
                yield Row(WHOLE, precision, Limit("max_abs", bound, why, tap=tap))
    for row in networks:
        if row.limit.where == "output" and set(VOICES) <= set(row.families):
            # Where anybody speaks, these are an output of a network, too.
            yield Row(WHOLE, row.precision, replace(row.limit, where="tap", tap="embeddings"))
    yield from (Row(families, FLOAT32, limit) for families, limit in PIPELINE_LIMITS)
    yield Row(WHOLE, TF32, Limit("der", COARSE_DER, COARSE_DER_WHY, "task"))


NETWORK_LIMITS: tuple[Row, ...] = (
    *FLOAT32_LIMITS,
    *_derived_rows(TF32),
    *(row for one in MEASURED for row in _measured_rows(one)),
)
EXACT_LIMITS: tuple[Row, ...] = (*NETWORK_LIMITS, *_pipeline_rows(NETWORK_LIMITS))

# The fast configuration of a pipeline gives other embeddings on purpose. All before and behind them
# keeps the exact one's limits; these are in place of "who speaks when is the same". Measured on
# 2026-11-21 on a CPU, with fitted embeddings, which are touchier than trained ones (docs/fast.md).
FAST_LIMITS = (
    _for(("fast",), "shared_cosine_median", 0.97, "task",
         "half of the voices at least this near the exact ones: measured 0.985 to 0.988 on three "
         "recordings, and twice as far from 1 is allowed"),
    _for(("fast",), "shared_cosine_min", 0.5, "task",
         "of the voices that are clustered: measured 0.75 to 0.96, the worst a voice of two "
         "seconds, and twice as far from 1 is allowed"),
    _for(("fast",), "der", 0.02, "task",
         "two hundredths of the speech: measured 0, 0 and 0.7 %; a speaker made up or lost costs "
         "ten times that"),
)  # fmt: skip


def _fast_rows(rows: Sequence[Row]) -> Iterator[Row]:
    """In every precision: voices are compared with the same port's exact ones."""
    exact = [row for row in rows if set(WHOLE) <= set(row.families)]
    for row in exact:
        if row.limit.metric not in ("unexplained_der", "der"):
            yield replace(row, families=("fast",))
    for precision in dict.fromkeys(row.precision for row in exact):
        yield from (Row(families, precision, limit) for families, limit in FAST_LIMITS)


LIMITS: tuple[Row, ...] = (*EXACT_LIMITS, *_fast_rows(EXACT_LIMITS))

# A set of limits ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Limits:
    """All limits that one comparison is judged by."""

    family: Family
    dtype: Dtype
    device: Device
    limits: tuple[Limit, ...]

    def at(
        self, tap: str, *, output: bool, values: int = MANY, lost: float = 0.0
    ) -> dict[str, Limit]:
        """Metric -> the limit that holds at this tap, which has so many values.

        Few values widen the default bounds, and so does what the reference has ``lost`` of its own
        cosine; a bound that was set by hand holds as it was set.
        """
        chosen = {one.metric: one for one in self.limits if one.where == "tap" and one.tap is None}
        if output:
            chosen |= {one.metric: one for one in self.limits if one.where == "output"}
        chosen |= {one.metric: one for one in self.limits if one.tap == tap}
        return {
            metric: one.for_values(values).where_noise_costs(lost)
            if one.place in self._usual
            else one
            for metric, one in chosen.items()
        }

    @property
    def for_task(self) -> dict[str, Limit]:
        return {one.metric: one for one in self.limits if one.where == "task"}

    def of_task(self, lost: float) -> dict[str, Limit]:
        """The same with room for what the reference has ``lost`` of its own cosines."""
        return {
            metric: one.where_noise_costs(lost) if one.place in self._usual else one
            for metric, one in self.for_task.items()
        }

    @cached_property
    def _usual(self) -> set[tuple[str, str, str | None, float]]:
        return {one.place for one in limits_for(self.family, self.dtype, self.device).limits}

    @property
    def named_taps(self) -> set[str]:
        return {one.tap for one in self.limits if one.tap is not None}

    def overridden(self, overrides: Iterable[Override]) -> Limits:
        """These limits with some replaced; later overrides win over earlier ones."""
        limits = self.limits
        for one in overrides:
            limits = _overridden(limits, one)
        return replace(self, limits=limits)


def _overridden(limits: tuple[Limit, ...], one: Override) -> tuple[Limit, ...]:
    if one.tap is not None:
        kept = (x for x in limits if (x.metric, x.tap) != (one.metric, one.tap))
        return (*kept, Limit(one.metric, one.bound, one.origin, "tap", one.tap))
    general = [x for x in limits if x.metric == one.metric and x.tap is None]
    if not general:
        where: Where = "tap" if METRICS[one.metric].task_section is None else "task"
        return (*limits, Limit(one.metric, one.bound, one.origin, where))
    return tuple(replace(x, bound=one.bound, why=one.origin) if x in general else x for x in limits)


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


def coarsest(dtypes: Iterable[str]) -> str:
    """Of several precisions the one whose limits are widest."""

    def width(dtype: str) -> float:
        return limits_for("generic", dtype, "cpu").at("any", output=False)["noise_ratio"].bound

    return max(dtypes, key=width)


# What was loosened --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Loosened:
    """A limit that allows more than the default does."""

    metric: str
    where: Where
    tap: str | None
    default: float
    bound: float

    def __str__(self) -> str:
        place = {"tap": "every tap", "output": "the outputs", "task": "the task"}[self.where]
        place = place if self.tap is None else f"tap {self.tap}"
        return f"{self.metric} at {place}: {self.bound:g} instead of {self.default:g}"


def loosened(limits: Limits, outputs: Collection[str] | None = None) -> tuple[Loosened, ...]:
    """Every limit looser than the default, one that was removed included.

    A named tap is held against the default of an output if it is one of ``outputs``. Not knowing
    the outputs, it is held against the strictest default of the metric.
    """
    default = limits_for(limits.family, limits.dtype, limits.device)
    found = [x for old in default.limits if (x := _general_loosening(limits, old))]
    named = {(one.metric, one.tap) for one in default.limits}
    for new in limits.limits:
        known = new.tap is None or (new.metric, new.tap) in named
        if not known and (x := _tap_loosening(default, new, outputs)):
            found.append(x)
    return tuple(found)


def _general_loosening(limits: Limits, old: Limit) -> Loosened | None:
    metric, place = METRICS[old.metric], (old.metric, old.where, old.tap)
    same = [x for x in limits.limits if (x.metric, x.where, x.tap) == place]
    bound = same[-1].bound if same else metric.no_limit
    if not metric.looser(bound, old.bound):
        return None
    return Loosened(old.metric, old.where, old.tap, old.bound, bound)


def _tap_loosening(default: Limits, new: Limit, outputs: Collection[str] | None) -> Loosened | None:
    assert new.tap is not None
    metric = METRICS[new.metric]
    sides = (False, True) if outputs is None else (new.tap in outputs,)
    held = [default.at(new.tap, output=side).get(new.metric) for side in sides]
    for old in held:
        if old is not None and metric.looser(new.bound, old.bound):
            strictest = min if metric.sense != AT_LEAST else max
            bound = strictest(x.bound for x in held if x is not None)
            return Loosened(new.metric, "tap", new.tap, bound, new.bound)
    return None
