"""What every reader of a named file asks first: is it one?"""

from __future__ import annotations

import stat
from pathlib import Path

from samevoice.errors import SamevoiceError


def refuse_special(path: Path, error: type[SamevoiceError]) -> None:
    """Raise ``error`` for a pipe or a device, which would keep its reader waiting for ever.

    What does not exist, and a folder, is the reader's own business.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise error(f"{path} is not an ordinary file: name a file, not a pipe or a device")
