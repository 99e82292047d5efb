"""A pipeline, timed stage by stage as it runs, and its networks layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from typing import Any
from unittest import mock

from samevoice.bench.counting import Count, of_layers
from samevoice.bench.profile import FORM, Profile, Tally, parts_of
from samevoice.models.diarization.frames import Frames
from samevoice.models.diarization.pipeline import SpeakerDiarizationPipeline
from samevoice.models.layers.fbank import Fbank
from samevoice.models.layers.geometry import num_frames

import mlx.core as mx  # isort: skip

REST, FEATURES, POOLING = "the rest", "features", "pooling, linear"
EMBED = "embed"
STAGES = "reading segmentation embeddings counting clustering reconstruction"  # in their order
LEAST = 2.0  # seconds that are looked at, for each run: 400 samples

# Rows of a network: what they are called, the parts of its fast form, and its plain layers. The
# first that fits counts. A network without such a table has one row for all of its layers.
Group = tuple[str, str, str]
PYANNET: Sequence[Group] = (
    ("sinc filters", "/front.filters*", "sincnet.conv.0"),
    ("convolutions", "/front.convs.*", "sincnet.conv.*"),
    ("norms, max pools", "/front*", "sincnet*"),
    ("LSTM", "/lstm.*", "lstm.*"),
    ("linear", "/*", "[lc]*"),
)
CAMPPLUS: Sequence[Group] = (
    ("front, conv1", "/front.first", "head.conv1"),
    ("front, layer1", "/front.blocks.[01].*", "head.layer1.*"),
    ("front, layer2", "/front.blocks.[23].*", "head.layer2.*"),
    ("front, conv2", "/front.last*", "head.conv2"),
    ("tdnn, transits", "/tdnn*", "xvector.tdnn.*"),
    ("tdnn, transits", "/blocks.*.transit*", "xvector.transit*"),
    *(
        (f"block{n}, 1x1", f"/blocks.{n - 1}.*.first*", f"xvector.block{n}.*[0-9].linear1")
        for n in (1, 2, 3)
    ),
    *((f"block{n}, dilated", f"/blocks.{n - 1}.*", f"xvector.block{n}.*") for n in (1, 2, 3)),
)


def _resnet(network: Any) -> Iterator[Group]:
    yield "conv1", "resnet/first.first*", "resnet.conv1"
    yield "layer1", "resnet/first.blocks*", "resnet.layer1.*"
    yield "conv1", "resnet/first*", "resnet.conv1"
    blocks = [path for path, _ in network.resnet.blocks]
    last = len(blocks) - len(network.resnet.layer4)
    form = network.resnet._host.made
    first = last - len(form.blocks) if form else 0
    for k, path in enumerate(blocks):
        part = f"blocks.{k - first}" if k < last else f"last.{k - last}"
        yield path.partition(".")[0], f"resnet/{part}.*", f"resnet.{path}.*"


def groups_of(network: Any) -> Sequence[Group]:
    known = {"PyanNet": PYANNET, "CAMPPlus": CAMPPLUS}
    if hasattr(network, "resnet"):
        return tuple(_resnet(network))
    return known.get(type(network).__name__, ())


def label_of(name: str, groups: Sequence[Group]) -> str:
    """The row that a layer or a part of a fast form belongs to."""
    if name in ("fbank", EMBED):
        return {"fbank": FEATURES, EMBED: POOLING}[name]
    for label, form, plain in groups:
        pattern = form if FORM in name else plain
        if fnmatchcase(name, pattern) or fnmatchcase(f"{name}.", pattern):
            return label
    return REST


# One pipeline -------------------------------------------------------------------------------------


def job(bundle: str, audio: str, runs: int, fast: bool) -> Callable[[], Mapping[str, Any]]:
    pipeline = SpeakerDiarizationPipeline(bundle, "cpu", fast=fast)
    pipeline(audio)  # now the fast forms are made, and scipy is imported

    def anatomy() -> Mapping[str, Any]:
        found = [pipeline(audio) for _ in range(runs)]
        clocks = sorted((one.seconds for one in found), key=lambda spent: sum(spent.values()))
        chunks = pipeline.frames.num_chunks(round(found[0].duration * pipeline.frames.sample_rate))
        middle = clocks[runs // 2]
        return {
            "stages": {stage: middle[stage] for stage in sorted(middle, key=STAGES.find)},
            "chunks": chunks,
            "parts": _parts(pipeline, audio, runs * LEAST, chunks),
        }

    return anatomy


def _parts(
    pipeline: Any, audio: str, least: float, chunks: int
) -> Mapping[str, list[tuple[str, float, float, float]]]:
    """By stage: what a part is, its share of the stage, operations and bytes of one run."""
    networks = {"segmentation": pipeline.segmentation, "embeddings": pipeline.embedding}
    names = {
        key: f"{stage} {name}"
        for stage, network in networks.items()
        for key, name in parts_of(network).items()
    }
    profile = Profile(names | {id(EMBED): f"embeddings {EMBED}"})
    times, spent, calls = 0, Tally(), Tally()
    with _followed(pipeline.embedding, pipeline.frames, calls), profile.watching():
        while sum(spent.values()) < least:
            for stage, seconds in pipeline(audio).seconds.items():
                spent[stage] += seconds
            times += 1
    for name in ("frames", "shared_frames", EMBED):
        calls[name] /= times
    found = {}
    counted = zip(networks.items(), _counts(pipeline, calls, chunks), strict=True)
    for (stage, network), counts in counted:
        groups = groups_of(network)
        by_label = Tally()
        for name, part in profile.seconds.items():
            if name.startswith(f"{stage} "):
                by_label[label_of(name.partition(" ")[2], groups)] += part
        found[stage] = _shares(counts, by_label, spent[stage])
    return found


def _shares(
    counts: Mapping[str, Count], seconds: Tally, whole: float
) -> list[tuple[str, float, float, float]]:
    """What was never seen at work goes to the rest, and so does time that nothing was seen in."""
    seconds[REST] += max(0.0, whole - sum(seconds.values()))
    unseen = (x for label, x in counts.items() if label != REST and not seconds[label])
    counts = {**counts, REST: sum(unseen, counts.get(REST, Count()))}
    labels = dict.fromkeys([FEATURES, *(x for x in counts if x not in (POOLING, REST)), POOLING])
    rows = [*(label for label in labels if seconds[label]), REST]
    known = {label: counts.get(label, Count()) for label in rows}
    total = sum(seconds.values())
    return [(x, seconds[x] / total, known[x].flop, known[x].nbytes) for x in rows]


def _counts(pipeline: Any, calls: Mapping[str, float], chunks: int) -> list[dict[str, Count]]:
    """All that one run of the pipeline has to do, by rows, of one network and of the other."""
    frames, network = pipeline.frames, pipeline.embedding
    waveform = mx.zeros((1, frames.chunk_samples))
    heard = of_layers(pipeline.segmentation, lambda: pipeline.segmentation(waveform))
    made: list[mx.array] = []
    work = [(of_layers(network, lambda: made.append(network.frames(waveform))), calls["frames"])]
    if calls["shared_frames"]:
        features, between = network.features(waveform), bool(calls["between"])
        shared = of_layers(network, lambda: network.shared_frames(features, between=between))
        work.append((shared, calls["shared_frames"]))
    masks = mx.zeros((1, max(1, round(calls["slots"])), frames.per_chunk))
    pooling = of_layers(network, lambda: network.embed(made[0], masks))
    work.append(({EMBED: sum(pooling.values(), Count())}, calls[EMBED]))
    groups = [groups_of(one) for one in (pipeline.segmentation, network)]
    return [_by_rows([(heard, chunks)], groups[0]), _by_rows(work, groups[1])]


def _by_rows(
    work: Sequence[tuple[Mapping[str, Count], float]], groups: Sequence[Group]
) -> dict[str, Count]:
    """Layers' work, and how often each is done."""
    found: dict[str, Count] = {}
    for layers, times in work:
        for path, count in layers.items():
            label = label_of(path, groups)
            found[label] = found.get(label, Count()) + count * times
    return found


@contextmanager
def _followed(embedding: Any, frames: Frames, calls: Tally) -> Iterator[None]:
    """What the embedding is asked for, in chunks; and it is computed then, not when it is read."""

    def noted(name: str, self: Any, x: mx.array, *masks: mx.array, between: bool = False) -> None:
        whole = frames.chunk_samples
        if name == "shared_frames":
            whole, calls["between"] = num_frames((self.fbank.window,), whole), int(between)
        calls[name] += len(x) if name == EMBED else x.shape[0] * x.shape[1] / whole
        if name == EMBED:
            calls["slots"] = masks[0].shape[1]

    def watched(name: str, call: Callable[..., mx.array]) -> Callable[..., mx.array]:
        def calling(self: Any, *args: Any, **kwargs: Any) -> mx.array:
            if self is embedding:
                noted(name, self, *args, **kwargs)
            made = call(self, *args, **kwargs)
            mx.eval(made)
            return made

        return calling

    kind = type(embedding)
    names = [name for name in ("frames", "shared_frames", EMBED) if hasattr(kind, name)]
    with ExitStack() as stack:
        for owner, name in [*((kind, x) for x in names), (Fbank, "__call__"), (Fbank, "log_mel")]:
            change = watched(name, getattr(owner, name))
            stack.enter_context(mock.patch.object(owner, name, change))
        yield
