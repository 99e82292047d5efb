"""pyannote's own pipeline, run as people run it and listened to, and its truth in float64.

What it passes from stage to stage is read off its own functions while they run; nothing of it is
written down twice here. C chunks, F frames a chunk, S slots, K speakers, E numbers an embedding,
N trained slots, T frames of the whole recording.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from types import SimpleNamespace
from typing import Any, TypeAlias

import numpy as np

from samevoice import plain_yaml
from samevoice.converters.convert import Conversion, Part
from samevoice.files import read_text
from samevoice.models.diarization.clustering import Clustering
from samevoice.models.diarization.output import Turns
from samevoice.models.diarization.vbx import Steps
from samevoice.parity import authors
from samevoice.parity.inputs import CHUNK, RATE, Example, noise
from samevoice.parity.listening import ReferenceError, names_of_part, seams_of
from samevoice.parity.metrics import Array
from samevoice.parity.reference import Reference
from samevoice.parity.turns import Turn

BATCH = 4  # chunks in float64 at once
NOBODY = -2  # pyannote's cluster of slots that got none
OTHERS = 8  # ways to deal out the errors of embeddings, to see what they move
TOLD = 2  # speakers, where a clustering must be told how many there are
KEPT = 1e-7  # pyannote drops speakers that VBx finds less likely
TIE = 1e-5  # sums of scores that are as close say nothing; whole votes are equal or 1 apart

Notes = defaultdict[str, list[Any]]
# What came out of a call, then what went in -> what is noted of it, by name.
Take: TypeAlias = Callable[..., Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class Vbx(Steps):
    """VBx, and what the PLDA made of the voices: N slots, D numbers, A first clusters."""

    xvectors: Array  # (N, D)
    phi: Array  # (D,)

    @property
    def columns(self) -> Array:
        """(A,): the clusters in the order in which they first come."""
        return np.array(list(dict.fromkeys(self.ahc.tolist())), dtype=np.int64)

    @property
    def ranks(self) -> Array:
        """The centroids in the same order: those of clusters that are likely enough to be kept."""
        kept = [k for k in self.columns if self.pi[k] > KEPT]
        return np.searchsorted(np.flatnonzero(self.pi > KEPT), kept)


@dataclass(frozen=True, eq=False)
class Clusters(Clustering):
    """A clustering, and the steps of VBx where there was enough to cluster."""

    steps: Vbx | None = None

    @property
    def ranks(self) -> Array:
        """(K,): the centroids in the order in which their clusters first come, if known."""
        plain = np.arange(len(self.centroids))
        ranks = self.steps.ranks if self.steps else plain
        return ranks if len(ranks) == len(plain) else plain


@dataclass(frozen=True, eq=False)
class Timeline:
    """Zeros and ones (T, K), and the frames (T,) at which equal votes left the choice to a sort."""

    speakers: Array
    tied: Array


@dataclass(frozen=True, eq=False)
class Silent:
    """All that a pipeline said on the way, where nobody speaks."""

    waveform: Array  # (samples,)
    chunks: Array  # (C, samples)
    batches: tuple[int, ...]  # how many chunks were segmented at once
    scores: Array  # (C, F, classes)
    segmentations: Array  # (C, F, S)
    counts: Array  # (T,)
    turns: tuple[Turn, ...]
    exclusive_turns: tuple[Turn, ...]
    voices: Array  # (K, E), a row a label

    @property
    def empty_slots(self) -> Array:
        """(C, S): where nobody speaks."""
        return np.asarray(self.segmentations.sum(axis=1) == 0)

    @property
    def tied(self) -> Array:
        """(T,): where a sort, not the votes, chose a speaker."""
        return np.zeros(0, dtype=bool)


@dataclass(frozen=True, eq=False)
class Spoke(Silent):
    """The same, where somebody does."""

    weights: Array  # (C, S, F)
    fbank: Array  # (C, frames, bins)
    embeddings: Array  # (C, S, E)
    clusters: Clusters
    discrete: Timeline
    exclusive: Timeline

    @property
    def tied(self) -> Array:
        found: Array = self.discrete.tied | self.exclusive.tied
        return found


TorchRun: TypeAlias = Silent | Spoke


@dataclass(frozen=True, eq=False)
class Truth:
    """The scores in float64; where nobody speaks there is no more."""

    scores: Array


@dataclass(frozen=True, eq=False)
class SpokenTruth(Truth):
    """The rest in float64, for the masks that the pipeline chose."""

    fbank: Array
    embeddings: Array
    clusters: Clusters
    others: tuple[Clusters, ...]  # of embeddings that are off as far as pyannote's


class ReferencePipeline:
    """A pyannote pipeline and the references of its two networks."""

    def __init__(
        self, pipeline: Any, segmentation: Reference, embedding: Reference, *, levels: bool = False
    ) -> None:
        self.pipeline, self.segmentation, self.embedding = pipeline, segmentation, embedding
        self.levels = levels  # whether the segmentation levels all chunks of a batch together
        # Found by trial on first use: not while somebody listens.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.min_samples = int(pipeline._embedding.min_num_samples)

    @classmethod
    def load(cls, planned: Conversion) -> ReferencePipeline:
        """pyannote's pipeline from the very files that the converter has read."""
        parts = {part.family.role: part for part in planned.parts}
        references = {name: Reference.load(parts[name]) for name in ("segmentation", "embedding")}
        from pyannote.audio import Pipeline

        config = _config(planned, parts)
        with _taking_modules(config["pipeline"], references["embedding"], parts):
            pipeline = Pipeline.from_pretrained(config)
        if pipeline is None:
            raise ReferenceError("pyannote.audio cannot load this pipeline")
        networks = {
            "segmentation": pipeline._segmentation.model,
            "embedding": pipeline._embedding.model_,
        }
        for name, module in networks.items():
            _check_same(name, module, references[name].module)
        made = {
            name: Reference(networks[name], seams_of(networks[name], names_of_part(parts[name])))
            for name in networks
        }
        levels = bool(parts["segmentation"].config.get("normalize_waveform"))
        return cls(pipeline, made["segmentation"], made["embedding"], levels=levels)

    def run(self, waveform: Array, uri: str = "recording") -> TorchRun:
        """(samples,) at 16 kHz -> what pyannote makes of it, stage by stage."""
        with _quietly(), self._listening() as notes:
            made = self._call(waveform, uri, _hook(notes))
        return _run_of(np.asarray(waveform), notes, made)

    def turns(self, waveform: Array, uri: str) -> Turns:
        """Only who speaks when, as people run it."""
        with _quietly():
            made = self._call(waveform, uri)
        return Turns.from_annotation(made.speaker_diarization)

    def _call(self, waveform: Array, uri: str, hook: Callable[..., None] | None = None) -> Any:
        import torch

        plain = torch.from_numpy(np.array(waveform, dtype=np.float32))[None]
        file = {"waveform": plain, "sample_rate": RATE, "uri": uri}
        told = {"num_speakers": TOLD} if self._must_be_told else {}
        return self.pipeline(file, hook=hook, **told)

    def truth(self, run: TorchRun) -> Truth:
        """The networks in float64, and pyannote's clustering of what they say then."""
        scores = _batched(
            lambda at: self.segmentation.run(_example(run.chunks[at]), "float64"),
            run.batches if self.levels else _sizes(run.chunks),
        )
        if not isinstance(run, Spoke):
            return Truth(scores)
        weights, fbanks = run.weights, Notes(list)
        double = self.embedding.double
        with _quietly(), _overheard(double, "compute_fbank", fbanks, _output("fbank")):
            embeddings = _batched(
                lambda at: self.embedding.run(_example(run.chunks[at], weights[at]), "float64"),
                _sizes(run.chunks),
            )
        found = self.cluster(embeddings, run.segmentations)
        others = (self.cluster(x, run.segmentations) for x in as_far_off(embeddings, run))
        fbank = np.concatenate(fbanks["fbank"])
        return SpokenTruth(scores, fbank, embeddings, found, tuple(others))

    def cluster(self, embeddings: Array, segmentations: Array) -> Clusters:
        """(C, S, E), (C, F, S) -> pyannote's clustering of them."""
        from pyannote.core import SlidingWindow, SlidingWindowFeature

        windows = SlidingWindow(duration=1.0, step=1.0)  # clustering does not look at it
        with _quietly(), self._listening() as notes:
            self.pipeline.clustering(
                embeddings=np.array(embeddings),
                segmentations=SlidingWindowFeature(segmentations, windows),
                num_clusters=TOLD if self._must_be_told else None,
                min_clusters=1,
                max_clusters=np.inf,
            )
        return _clusters(notes)

    @property
    def _must_be_told(self) -> bool:
        return bool(self.pipeline.clustering.expects_num_clusters)

    @contextmanager
    def _listening(self) -> Iterator[Notes]:
        """What comes out of pyannote's own functions, and what goes in where that is wanted."""
        from pyannote.audio.core.inference import Inference
        from pyannote.audio.pipelines import clustering, speaker_diarization
        from pyannote.audio.utils import vbx

        notes, pipeline = Notes(list), self.pipeline
        segmentation, embedding = pipeline._segmentation.model, pipeline._embedding.model_
        clusters = type(pipeline.clustering)
        calls: list[tuple[Any, str, Take]] = [
            (segmentation, "forward", lambda found, x: {"chunks": x[:, 0], "scores": found}),
            (embedding, "forward", lambda found, x, weights: {"weights": weights}),
            (embedding, "compute_fbank", _output("fbank")),
            (speaker_diarization, "binarize", _output("masks")),
            (Inference, "aggregate", _output("votes")),
            (
                type(pipeline),
                "reconstruct",
                lambda found, *given: {"timelines": (found, notes["votes"][-1], given[-1])},
            ),
            (clusters, "filter_embeddings", lambda found, *_, **__: {"trained": found[1:]}),
            (clusters, "__call__", _output("clusters")),
            (clustering, "cluster_vbx", _vbx),
            (vbx, "VBx", lambda found, *_, **__: {"elbo": np.ravel(found[2])}),
        ]
        if hasattr(pipeline._plda, "_xvec_tf"):
            calls.append((pipeline._plda, "_xvec_tf", _output("xvectors")))
        with ExitStack() as stack:
            for owner, name, take in calls:
                stack.enter_context(_overheard(owner, name, notes, take))
            yield notes


def as_far_off(truth: Array, run: Spoke) -> Iterator[Array]:
    """The truth with pyannote's own errors dealt out to other slots, and with the other sign.

    Clustering such embeddings is as valid as clustering pyannote's. What comes out otherwise is
    decided by rounding, and how far numbers move is the noise of this stage.
    """
    errors = (run.embeddings - truth).reshape(-1, truth.shape[-1])
    spoken = np.flatnonzero(run.segmentations.any(axis=1).ravel())
    for turn in range(OTHERS):
        dealt = np.zeros_like(errors)
        dealt[spoken] = np.roll(errors[spoken], turn // 2, axis=0) * (-1) ** (turn + 1)
        yield truth + dealt.reshape(truth.shape)


def _config(planned: Conversion, parts: Mapping[str, Part]) -> dict[str, Any]:
    """config.yaml with every part where the converter found it."""
    assert planned.pipeline is not None
    text = planned.pipeline.root / planned.pipeline.files[0]
    config: dict[str, Any] = plain_yaml.load(read_text(text, ReferenceError))
    config["pipeline"]["params"] = config["pipeline"].get("params") or {}
    for name, part in parts.items():
        root, files = part.source.root, part.source.files
        where = root if part.family.is_data else root / files[0]
        config["pipeline"]["params"][name] = {"checkpoint": str(where)}
    return config


@contextmanager
def _taking_modules(
    block: dict[str, Any], embedding: Reference, parts: Mapping[str, Part]
) -> Iterator[None]:
    """pyannote's pipeline loads its own models; an embedding of others is handed over as it is.

    Where there is no PLDA, pyannote would fetch one that it does not use; suplime does not.
    """
    from pyannote.audio.core.plda import PLDA
    from pyannote.audio.pipelines import speaker_verification

    params = block["params"]
    if block["name"].startswith("suplime."):
        authors.load(authors.SUPLIME, "suplime")
    elif not any(part.family.is_data for part in parts.values()):
        params["plda"] = PLDA.__new__(PLDA)
    if "pyannote.audio" in parts["embedding"].checkpoint.entries:
        yield
        return
    module: Any = embedding.module
    config = parts["embedding"].config
    module.audio = SimpleNamespace(sample_rate=config["sample_rate"])
    module.dimension = embedding.run(_example(noise(CHUNK)[None])).shape[-1]
    params["embedding"] = module
    load = speaker_verification.get_model
    speaker_verification.get_model = lambda model, **_: model
    try:
        yield
    finally:
        speaker_verification.get_model = load


def _check_same(name: str, module: Any, checked: Any) -> None:
    """The pipeline's network holds what the checkpoint does, to the last bit."""
    ours, theirs = module.state_dict(), checked.state_dict()
    for tensor, value in theirs.items():
        if tensor.endswith("num_batches_tracked"):  # inference never reads it
            continue
        if tensor not in ours or not np.array_equal(ours[tensor].numpy(), value.numpy(), True):
            raise ReferenceError(f"pyannote's pipeline holds another {name}: {tensor} differs")


# Listening ----------------------------------------------------------------------------------------


@contextmanager
def _overheard(owner: Any, name: str, notes: Notes, take: Take) -> Iterator[None]:
    """Calls of ``owner.name`` go on as before; what is taken of each is noted."""
    call, own = getattr(owner, name), vars(owner).get(name)

    def calling(*args: Any, **kwargs: Any) -> Any:
        found = call(*args, **kwargs)
        for key, value in take(found, *args, **kwargs).items():
            notes[key].append(_copied(value))
        return found

    setattr(owner, name, staticmethod(calling) if isinstance(own, staticmethod) else calling)
    try:
        yield
    finally:
        delattr(owner, name)
        if own is not None:
            setattr(owner, name, own)


def _copied(found: Any) -> Any:
    """Arrays as they are now: the pipeline changes some of them in place later on."""
    if isinstance(found, tuple):
        return tuple(_copied(one) for one in found)
    if hasattr(found, "sliding_window"):
        found = found.data
    if hasattr(found, "detach"):
        found = found.detach().numpy()
    return np.array(found)


def _output(name: str) -> Take:
    """Just what came out, under this name."""
    return lambda found, *_, **__: {name: found}


def _vbx(found: Any, ahc: Array, features: Array, phi: Array, *_: Any, **__: Any) -> dict[str, Any]:
    return {"ahc": ahc, "features": features, "phi": phi, "gamma": found[0], "pi": found[1]}


def _hook(notes: Notes) -> Callable[..., None]:
    """What the pipeline tells whoever wants to follow it."""

    def hook(step: str, artefact: Any, **progress: Any) -> None:
        if artefact is not None and "completed" not in progress:
            notes[step].append(_copied(artefact))

    return hook


def tied(votes: Array, counts: Array) -> Array:
    """(T, K), (T,) -> (T,): whether the last speaker in has as many votes as the first one out.

    Sums of scores need not be equal: rounding decides between those that are nearly so.
    """
    ranked, rows = -np.sort(-votes, axis=1), np.arange(len(votes))
    counts = np.asarray(counts[: len(votes)], dtype=np.int64)
    between: Array = (counts > 0) & (counts < votes.shape[1])
    inside = np.where(between, counts, 1)
    outside = np.minimum(inside, max(votes.shape[1] - 1, 0))
    if not votes.shape[1]:
        return between
    equal: Array = np.abs(ranked[rows, inside - 1] - ranked[rows, outside]) < TIE
    return between & equal


@contextmanager
def _quietly() -> Iterator[None]:
    """pyannote warns about what is odd in a recording, such as a pooling over one frame."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# What was run -----------------------------------------------------------------------------------


def _run_of(waveform: Array, notes: Notes, made: Any) -> TorchRun:
    # Powerset classes come as masks; scores of single labels are decided by a threshold first.
    segmentations = (notes["masks"] or notes["segmentation"])[0]
    (counts,) = notes["speaker_counting"]
    chunks, slots = segmentations.shape[::2]
    common = {
        "waveform": waveform,
        "chunks": np.concatenate(notes["chunks"]),
        "batches": tuple(map(len, notes["chunks"])),
        "scores": np.concatenate(notes["scores"]),
        "segmentations": segmentations,
        "counts": np.asarray(counts[:, 0], dtype=np.int64),
        "turns": turns_of(made.speaker_diarization),
        "exclusive_turns": turns_of(made.exclusive_speaker_diarization),
        "voices": np.array(made.speaker_embeddings),
    }
    if not notes["embeddings"]:
        return Silent(**common)
    weights = np.concatenate(notes["weights"])
    discrete, exclusive = (
        Timeline(speakers.astype(np.uint8), tied(votes, counts[:, 0]))
        for speakers, votes, counts in notes["timelines"]
    )
    return Spoke(
        **common,
        weights=weights.reshape(chunks, slots, -1),
        # Each chunk goes through once for each of its slots.
        fbank=np.concatenate(notes["fbank"])[::slots],
        embeddings=notes["embeddings"][-1],
        clusters=_clusters(notes),
        discrete=discrete,
        exclusive=exclusive,
    )


def _clusters(notes: Notes) -> Clusters:
    hard, soft, centroids = notes["clusters"][-1]
    # With too little to cluster, pyannote gives everything to one cluster without VBx.
    given = {one.name: notes[one.name] for one in fields(Vbx)}
    steps = Vbx(**{name: found[-1] for name, found in given.items()}) if notes["elbo"] else None
    hard = np.asarray(hard, dtype=np.int64)
    return Clusters(hard, soft, centroids, notes["trained"][-1], steps)


def turns_of(turns: Any) -> tuple[Turn, ...]:
    """Start, end and label, of either side's turns in their own order."""
    return tuple((float(segment.start), float(segment.end), str(who)) for segment, who in turns)


def _example(chunks: Array, weights: Array | None = None) -> Example:
    return Example("", chunks[:, None], weights)


def _sizes(chunks: Array) -> list[int]:
    starts = range(0, len(chunks), BATCH)
    return [len(chunks[start : start + BATCH]) for start in starts]


def _batched(run: Callable[[slice], Array], sizes: Sequence[int]) -> Array:
    ends = np.cumsum(sizes).tolist()
    return np.concatenate(
        [run(slice(end - size, end)) for end, size in zip(ends, sizes, strict=True)]
    )
