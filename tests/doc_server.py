"""Processes that have imported torch and pyannote before they start: for blocks by the dozen.

``samevoice`` spends most of a short command importing. ``serve`` imports once, then forks for each
command: a process of its own, with its own words, folder, environment and files, as always, but
without the wait. ``ask`` is the other side. What reads the environment when it is imported sees the
server's, so that the hub's address and cache are the same for all.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def ask(server: str, what: str, words: Sequence[str], fds: Sequence[int] = (0, 1, 2)) -> int:
    """Run a command there, with these files as its own; its exit code comes back."""
    asked = {"what": what, "words": list(words), "env": dict(os.environ), "cwd": os.getcwd()}
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(server)
        data = json.dumps(asked).encode()
        socket.send_fds(line, [len(data).to_bytes(4, "big")], list(fds))
        line.sendall(data)
        answer = line.recv(16)
    return int(answer or b"70")  # it was killed before it could say


def serve(address: str) -> None:
    """Until it is ended; nothing is computed here, so that forks find no threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import matplotlib.figure  # noqa: F401

        from samevoice.converters.reference import import_pyannote

        import_pyannote()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(address)
        door.listen()
        print("ready", flush=True)  # noqa: T201
        while True:
            line, _ = door.accept()
            if os.fork() == 0:
                door.close()
                os._exit(_watch(line))
            line.close()


def _watch(line: socket.socket) -> int:
    """Fork once more, wait, and tell the exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    head, fds, _, _ = socket.recv_fds(line, 4, 3)
    size, data = int.from_bytes(head, "big"), b""
    while len(data) < size:
        data += line.recv(size - len(data))
    child = os.fork()
    if child == 0:
        line.close()
        os._exit(_run(json.loads(data), fds))
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(BrokenPipeError):
        line.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    return 0


def _run(asked: dict[str, Any], fds: Sequence[int]) -> int:
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
        os.close(fd)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w", 1)
    sys.dont_write_bytecode = True  # a file may be changed twice within a second
    sys.path[:0] = filter(None, asked["env"].get("PYTHONPATH", "").split(os.pathsep))
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    code: object = 0
    try:
        _MAINS[asked["what"]](asked["words"])
    except SystemExit as stopped:
        code = stopped.code
    except BaseException:
        traceback.print_exc()
        code = 1
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    return code if isinstance(code, int) else int(code is not None)


def _samevoice(words: list[str]) -> None:
    from samevoice.cli import main

    sys.argv = ["samevoice", *words]
    main()


def _python(words: list[str]) -> None:
    del words
    sys.path.insert(0, str(HERE))
    import doc_python

    doc_python.main()


_MAINS = {"samevoice": _samevoice, "python": _python}


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    sys.exit(ask(os.environ["SAMEVOICE_DOC_SERVER"], sys.argv[1], sys.argv[2:]))
