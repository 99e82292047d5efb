"""``make ports``: every network of the corpus from one command, and what became of it."""

from __future__ import annotations

import json
import multiprocessing
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


def main(only: list[str]) -> int:
    corpus = tomllib.loads((HERE / "corpus.toml").read_text(encoding="utf-8"))
    OUTPUT.mkdir(parents=True, exist_ok=True)
    # Once, for all that are forked from here on.
    import_module("samevoice.converters.reference").import_pyannote()
    for name in ("capture", "package"):
        import_module(f"samevoice.port.{name}")
    rows = []
    for package, networks in corpus.items():
        for spec, said in networks.items():
            if only and not any(part in f"{package}:{spec}" for part in only):
                continue
            row = {"package": package, "spec": spec, **ported(spec, said)}
            rows.append(row)
            said_last = f"  {row['said']}" if row["said"] else ""
            sys.stdout.write(f"{row['state']:8} {row['seconds']:4.0f} s  {spec}{said_last}\n")
            sys.stdout.flush()
    (OUTPUT / ("some.json" if only else "ports.json")).write_text(
        json.dumps(rows, indent=1), encoding="utf-8"
    )
    sys.stdout.write(f"{sum(row['state'] == 'green' for row in rows)} of {len(rows)} green\n")
    return 0


def ported(spec: str, said: dict[str, Any]) -> dict[str, Any]:
    """One run of the command, as a user types it, in a process of its own."""
    folder = OUTPUT / spec.replace(":", ".")
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
    return {"state": state, "said": lines[-1][:300] if code else "", "seconds": seconds}


def _run(line: list[str], log: Path) -> None:
    import os

    with log.open("w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.argv = ["samevoice", *line]
        from samevoice.cli import main as command

        command()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
