"""pyannote's pipeline, loaded once, and what it makes of a made-up talk."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_talk import Talk, made_up, one_thread, saying

from samevoice.converters import convert
from samevoice.parity.reference_pipeline import Heard, ReferencePipeline, Truth


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
def heard(reference: ReferencePipeline, talk: Talk) -> tuple[Heard, Truth]:
    with saying(reference, talk), one_thread():
        found = reference.run(talk.samples)
        return found, reference.truth(found)
