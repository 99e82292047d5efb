"""One interpreter for all Python blocks of a page: code in, what it printed out, names kept.

A line of JSON asks, ``{"code": ..., "name": ..., "line": ...}``; a line of JSON answers. Started by
``doc_server``.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    sys.path.insert(0, "")
    names: dict[str, object] = {"__name__": "__main__"}
    for asked in sys.stdin:
        question = json.loads(asked)
        with tempfile.TemporaryFile() as printed:
            os.dup2(printed.fileno(), 1)
            os.dup2(printed.fileno(), 2)
            good = _ran("\n" * (question["line"] - 1) + question["code"], question["name"], names)
            sys.stdout.flush()
            sys.stderr.flush()
            printed.seek(0)
            text = printed.read().decode(errors="replace")
        answers.write(json.dumps({"good": good, "text": text}) + "\n")
        answers.flush()


def _ran(code: str, name: str, names: dict[str, object]) -> bool:
    try:
        exec(compile(code, name, "exec"), names)
    except BaseException:
        traceback.print_exc()
        return False
    return True
