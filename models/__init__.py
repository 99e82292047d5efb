"""The networks in MLX, and nothing of the frameworks they came from: neither torch nor pyannote."""

from __future__ import annotations

# First of all, and before any `import mlx.core`: a BLAS that is loaded later takes no effect.
from samevoice.models import backend as backend
