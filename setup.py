"""pyproject.toml says everything; this only tells, before pip does, of a checkout without links."""

import sys

from setuptools import setup

sys.path.insert(0, "src")
try:
    import samevoice  # noqa: F401
except ImportError as error:
    sys.exit(str(error))

setup()
