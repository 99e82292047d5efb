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


LARGEST = 512 << 20  # of what is read as a whole


def read_text(path: Path, error: type[SamevoiceError]) -> str:
    """The whole of a UTF-8 file; what cannot be read so raises ``error``."""
    refuse_special(path, error)
    try:
        if path.stat().st_size > LARGEST:
            raise error(f"{path} is larger than {LARGEST >> 20} MiB, as no such file is")
        return path.read_text(encoding="utf-8")
    except OSError as reason:
        raise error(f"cannot read {path}: {reason.strerror}") from None
    except UnicodeDecodeError:
        raise error(f"{path} is not UTF-8") from None
    except ValueError:
        raise error(f"cannot read {str(path)!r}: no file has such a name") from None
