"""Which samevoice this is: its version, which a tag gave it, and the commit where that is known."""

from __future__ import annotations

import json
import subprocess
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path


def _version() -> str:
    try:
        return distribution("samevoice").version
    except PackageNotFoundError:
        return "unknown"  # a folder on the path that nobody installed


__version__ = _version()


def named() -> str:
    """The version, and in brackets the commit."""
    of = f" ({one})" if (one := commit()) else ""
    return f"{__version__}{of}"


def commit() -> str:
    """Of the clone that this runs from, or that pip installed from git; else nothing."""
    root = Path(__file__).resolve().parents[2]
    if (root / ".git").exists():
        ask = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude", "*"]
        try:
            return subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return ""
    try:
        told = distribution("samevoice").read_text("direct_url.json") or "{}"
    except PackageNotFoundError:
        return ""
    return str(json.loads(told).get("vcs_info", {}).get("commit_id", ""))[:7]
