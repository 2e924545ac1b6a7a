"""Post-norm text encoder (BERT; Devlin et al. 2019, 1810.04805) of any size: BERT, MiniLM and the like."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from rmtjax.models.layers import Attention, Dropout
from rmtjax.models.vit import Mlp

EPSILON = 1e-12  # of every norm
INITIAL = nn.initializers.normal(0.02)


class TokenEmbed(nn.Module):
    """Tokens to vectors: word, position and type, summed and normed. `[B, T] int32 -> [B, T, D]`.

    All tokens are of type 0, a text on its own.
    """

    vocabulary: int
    positions: int
    width: int
    rate: Any
    dtype: Any

    @nn.compact
    def __call__(self, tokens: jax.Array, train: bool) -> jax.Array:
        x = nn.Embed(self.vocabulary, self.width, embedding_init=INITIAL, name="word")(tokens)
        position = self.param("position", INITIAL, (self.positions, self.width))
        kind = nn.Embed(2, self.width, embedding_init=INITIAL, name="token_type")(
            jnp.zeros((1, 1), jnp.int32)
        )
        x = x + position[: tokens.shape[1]] + kind
        x = nn.LayerNorm(EPSILON, dtype=self.dtype, name="norm")(x)
        return Dropout(self.rate)(x, train)


class PostNormBlock(nn.Module):
    heads: int
    mlp_width: int
    rates: Any
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool) -> jax.Array:
        y = Attention(self.heads, self.rates["attention"], self.dtype, name="attention")(x, train, mask)
        x = x + Dropout(self.rates["residual"])(y, train)
        x = nn.LayerNorm(EPSILON, dtype=self.dtype, name="norm_attention")(x)
        y = Mlp(self.mlp_width, "gelu", self.rates["mlp"], self.dtype, name="mlp")(x, train)
        x = x + Dropout(self.rates["residual"])(y, train)
        return nn.LayerNorm(EPSILON, dtype=self.dtype, name="norm_mlp")(x)


class TextEncoder(nn.Module):
    depth: int
    heads: int
    mlp_width: int
    rates: Any
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool) -> jax.Array:
        for i in range(self.depth):
            x = PostNormBlock(self.heads, self.mlp_width, self.rates, self.dtype, name=f"block_{i}")(
                x, mask, train
            )
        return x


class BERT(nn.Module):
    """Tokens `[B, T] int32` (0: padding) to logits `[B, num_classes]` and features `[B, width]`, float32.

    Features are the mean over the tokens that are not 0 ("mean", as sentence encoders are trained) or a dense
    layer and tanh of the first token ("cls", as BERT was pre-trained). Dropout: on the sum of embeddings and
    at the end of both residual branches (`residual`, BERT's own places), on attention weights, within the
    MLP, before the head.
    """

    num_classes: int
    vocabulary: int
    width: int
    depth: int
    heads: int
    mlp_width: int
    positions: int
    pooling: str
    rates: Any
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, tokens: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
        mask = tokens != 0
        embed = TokenEmbed(
            self.vocabulary, self.positions, self.width, self.rates["residual"], self.dtype, name="embed"
        )
        encoder = TextEncoder(self.depth, self.heads, self.mlp_width, self.rates, self.dtype, name="encoder")
        x = encoder(embed(tokens, train), mask, train).astype(jnp.float32)
        if self.pooling == "mean":
            shown = mask[..., None]
            features = jnp.where(shown, x, 0).sum(1) / jnp.maximum(shown.sum(1), 1)
        else:
            features = nn.tanh(nn.Dense(self.width, name="pooler")(x[:, 0]))
        logits = nn.Dense(self.num_classes, name="head")(Dropout(self.rates["head"])(features, train))
        return logits, features
