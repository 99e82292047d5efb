"""``samevoice`` as the documentation's blocks find it on PATH: the real command, once for each ask.

Pages repeat each other: what converts and what compares runs once, and its answer and the files it
left are given again wherever the same words meet the same files. Everything else runs each time.
Where there is a server of processes (``doc_server``) it runs there.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from doc_server import ask

# Whose answer follows from its words and the files they name.
SHARED = os.environ.get("SAMEVOICE_DOC_SHARED", "convert parity").split()
REAL = Path(sys.executable).with_name("samevoice")


def main() -> int:
    words, table = sys.argv[1:], Path(os.environ["SAMEVOICE_DOC_TABLE"])
    if not words or words[0] not in SHARED:
        return _ended(words, (0, 1, 2))
    kept = table / _key(words)
    if not (kept / "answer").exists():
        _run(words, kept)
    shutil.copytree(kept / "files", Path.cwd(), dirs_exist_ok=True)
    parts, code = pickle.loads((kept / "answer").read_bytes())
    sys.stdout.buffer.write(parts[0])
    sys.stdout.flush()
    sys.stderr.buffer.write(parts[1])
    return int(code)


def _ended(words: list[str], fds: tuple[int, int, int]) -> int:
    """The exit code of the command, run with these files as its own."""
    if server := os.environ.get("SAMEVOICE_DOC_SERVER"):
        return ask(server, "samevoice", words, fds)
    stdin, out, err = fds
    return subprocess.run([str(REAL), *words], stdin=stdin, stdout=out, stderr=err).returncode


def _key(words: list[str]) -> str:
    """The words, and what lies here under those of them that are paths."""
    digest = hashlib.sha256(json.dumps(words).encode())
    for word in words:
        for path in _files(Path(word)):
            digest.update(f"\n{path}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:24]


def _files(path: Path) -> list[Path]:
    found = path.rglob("*") if path.is_dir() else [path]
    return sorted(one for one in found if one.is_file())


def _run(words: list[str], kept: Path) -> None:
    """Run it here, and keep what it said and every file that came or changed."""
    before = _state()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        code = _ended(words, (0, out.fileno(), err.fileno()))
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read())
    after = _state()
    shutil.rmtree(kept, ignore_errors=True)
    (kept / "files").mkdir(parents=True)
    for path in sorted(name for name in after if before.get(name) != after[name]):
        (kept / "files" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, kept / "files" / path)
    (kept / "answer").write_bytes(pickle.dumps((said, code)))


def _state() -> dict[str, tuple[int, int, int]]:
    found = {str(path): path.stat() for path in _files(Path())}
    return {name: (one.st_ino, one.st_mtime_ns, one.st_size) for name, one in found.items()}


if __name__ == "__main__":
    sys.exit(main())
