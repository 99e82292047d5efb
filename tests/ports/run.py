"""``make ports``: every network of the corpus from one command, and what became of it.

``PORTS="resnet18 XVEC"`` takes those alone. out/ports has the packages, what was said, ports.json,
and ports.md, which is the table of docs/porting.md.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
OUTPUT = Path("out/ports")
LIMIT = 900  # seconds a network
STATES = {0: "green", 1: "red", 2: "refused"}
_HEAD = """| Network | | Taps | Worst noise ratio | Classes | Lines | Seconds |
|---|---|---:|---:|---:|---:|---:|
"""


def main(only: list[str]) -> int:
    corpus = tomllib.loads((HERE / "corpus.toml").read_text(encoding="utf-8"))
    OUTPUT.mkdir(parents=True, exist_ok=True)
    # Once, for all that are forked from here on.
    import_module("samevoice.converters.reference").import_pyannote()
    for name in ("capture", "package"):
        import_module(f"samevoice.port.{name}")
    for package, networks in corpus.items():
        for spec, said in networks.items():
            if only and not any(part in f"{package}:{spec}" for part in only):
                continue
            row = {"package": package, "spec": spec, **ported(spec, said)}
            (OUTPUT / f"{_name(spec)}.json").write_text(json.dumps(row), encoding="utf-8")
            last = f"  {row['said']}" if row["said"] else ""
            sys.stdout.write(f"{row['state']:8} {row['seconds']:4.0f} s  {spec}{last}\n")
            sys.stdout.flush()
    rows = [_row(spec) for networks in corpus.values() for spec in networks]
    known = [row for row in rows if row]
    (OUTPUT / "ports.json").write_text(json.dumps(known, indent=1), encoding="utf-8")
    (OUTPUT / "ports.md").write_text(_HEAD + "\n".join(map(_line, known)), encoding="utf-8")
    sys.stdout.write(f"{sum(row['state'] == 'green' for row in known)} of {len(known)} green\n")
    return 0


def _name(spec: str) -> str:
    return spec.replace(":", ".")


def _row(spec: str) -> dict[str, Any]:
    """What became of it when it was last run."""
    path = OUTPUT / f"{_name(spec)}.json"
    found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return found


def _line(row: dict[str, Any]) -> str:
    name = f"| `{row['spec']}` | {row['state']} |"
    if row["state"] != "green":
        return f"{name} | | | | {row['seconds']:.0f} |"
    numbers = f"{row['taps']} | {row['worst']:.2f} | {row['classes']} | {row['lines']}"
    return f"{name} {numbers} | {row['seconds']:.0f} |"


def ported(spec: str, said: dict[str, Any]) -> dict[str, Any]:
    """One run of the command, as a user types it, in a process of its own."""
    folder = OUTPUT / _name(spec)
    line = ["port", spec, "--output", str(folder), "--overwrite"]
    line += ["--args", json.dumps(said.get("args", {}))]
    for shape in said.get("input", []):
        line += ["--input", shape]
    log, begun = OUTPUT / f"{folder.name}.log", time.monotonic()
    process = multiprocessing.get_context("fork").Process(target=_run, args=(line, log))
    process.start()
    process.join(LIMIT)
    if process.is_alive():
        process.kill()
        process.join()
    code, seconds = process.exitcode, time.monotonic() - begun
    state = STATES.get(-1 if code is None else code, "broken")
    lines = log.read_text(encoding="utf-8").strip().splitlines() or [""]
    row = {"state": state, "said": lines[-1][:300] if code else "", "seconds": seconds}
    return {**row, **_measured(folder)} if code == 0 else row


def _measured(folder: Path) -> dict[str, Any]:
    result = json.loads((folder / "parity" / "result.json").read_text("utf-8"))
    (network,) = folder.glob("*_mlx/network.py")
    code = network.read_text("utf-8")
    ratios = [one["noise_ratio"] for one in result["taps"] if one.get("noise_ratio") is not None]
    return {
        "taps": len(result["taps"]),
        "worst": max(ratios),
        "classes": code.count("\nclass "),
        "lines": len(code.splitlines()),
    }


def _run(line: list[str], log: Path) -> None:
    with log.open("w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.argv = ["samevoice", *line]
        from samevoice.cli import main as command

        command()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
