"""torch's attention of several heads, over the frames of one sequence or of two."""

from __future__ import annotations

import mlx.core as mx

from samevoice.models.layers import Module
from samevoice.models.nn.activations import softmax
from samevoice.models.nn.layers import Linear


class MultiheadAttention(Module):
    """(B, T, D) -> (B, T, D): what each frame takes from all, or from those of a key, (B, S, D).

    A mask of booleans is true where nothing is seen; one of numbers is added to the scores.
    ``key_padding_mask`` is (B, S), ``attn_mask`` (T, S) or (B * heads, T, S).
    """

    def __init__(self, embed_dim: int, num_heads: int, bias: bool = True) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_proj = Linear(embed_dim, embed_dim, bias=bias)
        self.key_proj = Linear(embed_dim, embed_dim, bias=bias)
        self.value_proj = Linear(embed_dim, embed_dim, bias=bias)
        self.out_proj = Linear(embed_dim, embed_dim, bias=bias)

    def __call__(self, query: mx.array, *more: mx.array, **masks: mx.array) -> mx.array:
        return self.with_weights(query, *more, **masks)[0]

    def with_weights(
        self,
        query: mx.array,
        key: mx.array | None = None,
        value: mx.array | None = None,
        key_padding_mask: mx.array | None = None,
        attn_mask: mx.array | None = None,
    ) -> tuple[mx.array, mx.array]:
        """The same, and how much each frame takes from which, (B, T, S): the mean of all heads."""
        key = query if key is None else key
        value = key if value is None else value
        q = self._parted(self.query_proj(query))
        k, v = self._parted(self.key_proj(key)), self._parted(self.value_proj(value))
        scores = (q * q.shape[-1] ** -0.5) @ k.swapaxes(-1, -2)
        if key_padding_mask is not None:
            scores = scores + _added(key_padding_mask)[:, None, None]
        if attn_mask is not None:
            each = _added(attn_mask)
            scores = scores + (each if each.ndim == 2 else each.reshape(scores.shape))
        weights = softmax(scores)
        y = (weights @ v).swapaxes(1, 2).flatten(2)
        return self.out_proj(y), weights.mean(axis=1)

    def _parted(self, x: mx.array) -> mx.array:
        """(B, T, H * W) -> (B, H, T, W)."""
        return x.reshape(*x.shape[:2], self.num_heads, -1).swapaxes(1, 2)


def _added(mask: mx.array) -> mx.array:
    return mx.where(mask, -mx.inf, 0.0) if mask.dtype == mx.bool_ else mask
