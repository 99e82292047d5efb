"""pyannote's pipeline, loaded once, and what it makes of a made-up talk."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_talk import Talk, made_up, one_thread, saying

from samevoice.converters import convert
from samevoice.parity.pipeline.original import ReferencePipeline, Spoke, SpokenTruth


@pytest.fixture(scope="session")
def reference(references: dict[str, Path]) -> ReferencePipeline:
    options = convert.Options()
    planned = convert.prepare(references["full"], model_type="auto", options=options)
    with one_thread():
        return ReferencePipeline.load(planned)


@pytest.fixture(scope="session")
def talk() -> Talk:
    return made_up()


@pytest.fixture(scope="session")
def heard(reference: ReferencePipeline, talk: Talk) -> tuple[Spoke, SpokenTruth]:
    with saying(reference, talk), one_thread():
        found = reference.run(talk.samples)
        truth = reference.truth(found)
        assert isinstance(found, Spoke)
        assert isinstance(truth, SpokenTruth)
        return found, truth
