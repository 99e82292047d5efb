"""The notebook, run from top to bottom; as a program it stores the outputs: ``make notebook``."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "notebooks" / "first-port.ipynb"


def ran(folder: Path) -> NotebookNode:
    """The notebook with all its outputs, run by a kernel that nobody's profile changes."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}})
    manager = client.create_kernel_manager()
    # Files instead of ports, which another program may take; sockets have short names.
    with tempfile.TemporaryDirectory() as short:
        manager.transport, manager.ip = "ipc", f"{short}/kernel"
        client.execute(env={**os.environ, "IPYTHONDIR": f"{short}/ipython"})
    return notebook


def stored(notebook: NotebookNode) -> NotebookNode:
    """What of it lies in the repository: no sound, no times, and one form of each output."""
    for number, cell in enumerate(notebook.cells):
        cell.metadata = NotebookNode()
        cell.id = f"cell-{number}"
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if not is_frame(one)]
            for one in cell.outputs:
                if "text/html" in one.get("data", {}):
                    del one.data["text/plain"]
    return notebook


def is_frame(output: NotebookNode) -> bool:
    return str(output.get("data", {}).get("text/html", "")).startswith("<iframe")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        made = stored(ran(Path(place)))
    nbformat.write(made, NOTEBOOK)
