"""The notebook runs from top to bottom, and what is stored of it is what it gives."""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nbclient", reason="nbclient is not installed: pip install 'samevoice[dev]'")

import made_notebook
import nbformat
from doc_pages import same
from made_notebook import NOTEBOOK

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return made_notebook.ran(tmp_path_factory.mktemp("notebook"))


@pytest.fixture
def there() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def outputs(notebook: Any) -> list[Any]:
    return [one for cell in notebook.cells for one in cell.get("outputs", [])]


def shown(notebook: Any) -> list[str]:
    """The HTML of each output that has some."""
    found = [one.get("data", {}).get("text/html") for one in outputs(notebook)]
    return [one for one in found if one is not None]


def headlines(notebook: Any) -> list[str]:
    found = "\n".join(shown(notebook))
    return re.findall(r'<p class="headline">.*?</span> (.*?)</p>', found)


def printed(notebook: Any) -> list[str]:
    return [
        one.text if one.output_type == "stream" else one.data["text/plain"]
        for one in outputs(notebook)
        if one.output_type == "stream" or "text/html" not in one.data
    ]


@pytest.mark.long
def test_it_shows_a_verdict_results_and_a_diarization(ran: Any) -> None:
    verdict, result, spoilt, talk = shown(ran)
    assert headlines(ran) == [
        "This port may be trusted.",
        "This port may be trusted.",
        "This port may not be trusted.",
    ]
    assert "layers.2" in verdict
    assert "<strong>segmentation</strong> against reference:segmentation" in result
    assert "Proven cause at lstm.1.forward: weights that are not the source&#39;s" in spoilt
    for one in (verdict, result, spoilt):
        assert one.count('src="data:image/svg+xml;base64,') == 1
    assert talk.startswith('<iframe title="Who speaks when in meeting"')
    assert "data:audio/flac;base64," in talk


@pytest.mark.long
def test_what_is_stored_is_what_it_gives(ran: Any, there: Any) -> None:
    """Figures may differ from machine to machine. ``make notebook`` stores it again."""
    made = made_notebook.stored(deepcopy(ran))
    assert headlines(there) == headlines(made)
    assert len(outputs(there)) == len(outputs(made))
    for stored, said in zip(printed(there), printed(made), strict=True):
        assert same(stored, said, Path())


def test_what_is_stored_is_valid_and_small(there: Any) -> None:
    nbformat.validate(there)
    assert there.nbformat == 4
    cells = [cell for cell in there.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [one for one in outputs(there) if one.output_type == "error"]
    assert not [one for one in outputs(there) if made_notebook.is_frame(one)]
    assert len(shown(there)) == 3
    assert NOTEBOOK.stat().st_size < 300_000


def test_its_links_lead_somewhere(there: Any) -> None:
    text = "\n".join(cell.source for cell in there.cells if cell.cell_type == "markdown")
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert links
    files = [NOTEBOOK.parent / one.partition("#")[0] for one in links]
    assert [one for one in files if not one.exists()] == []
