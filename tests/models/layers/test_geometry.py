from __future__ import annotations

from typing import Any

import pytest

from samevoice.models import registry


def test_ten_seconds(make: Any) -> None:
    model = registry.build(make.pyannet_config())
    assert model.num_frames(160000) == 589
    assert model.receptive_field_size() == 991
    assert model.receptive_field_size(2) - 991 == 270
    # algorithm.md, 17: the first frame's centre lies at 0.03097 s.
    assert model.receptive_field_center() == 495
    embedding = registry.build(make.wespeaker_config())
    assert embedding.fbank.window == (400, 160, 0)
    assert embedding.num_frames(160000) == 125


@pytest.mark.parametrize("stride", [1, 5, 10])
def test_pyannet_as_pyannote(pyannote: Any, make: Any, stride: int) -> None:
    theirs = pyannote.segmentation.PyanNet(sincnet={"stride": stride})
    ours = registry.build(make.pyannet_config(sincnet={"stride": stride}))
    check(theirs, ours)


@pytest.mark.parametrize("name", ["WeSpeakerResNet34", "WeSpeakerResNet152"])
def test_wespeaker_as_pyannote(pyannote: Any, make: Any, name: str) -> None:
    check(getattr(pyannote.embedding, name)(), registry.build(make.wespeaker_config(name)))


def check(theirs: Any, ours: Any) -> None:
    for samples in [*range(0, 2000, 37), 159999, 160000, 160001, 10**7]:
        assert ours.num_frames(samples) == theirs.num_frames(samples)
    for frame in (0, 1, 2, 588, 10**6):
        assert ours.receptive_field_size(frame) == theirs.receptive_field_size(frame)
        assert ours.receptive_field_center(frame) == theirs.receptive_field_center(frame)
