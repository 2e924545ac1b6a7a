"""Post-norm text encoder (BERT; Devlin et al. 2019, 1810.04805) of any size: BERT, MiniLM and the like.

RoBERTa (Liu et al. 2019, 1907.11692) and DistilBERT (Sanh et al. 2019, 1910.01108) are the same blocks; what
stands around them is in `KINDS`. In every text model here token 0 is padding.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from rmtjax.models.layers import Attention, Dropout
from rmtjax.models.vit import Mlp

INITIAL = nn.initializers.normal(0.02)


class Kind(NamedTuple):
    """What tells the encoders apart.

    Attributes:
      epsilon: of every norm.
      types: rows of the table of token types; 0: there is none.
      first_position: the row of positions at which a text begins.
      padding: the row of the table of words that stands for padding. It changes places with row 0, so that
        token 0 is padding and token `padding` is the word of row 0 (`<s>` of RoBERTa).
      pooled: the activation of the pooler.
    """

    epsilon: float = 1e-12
    types: int = 2
    first_position: int = 0
    padding: int = 0
    pooled: Callable[[jax.Array], jax.Array] = nn.tanh


KINDS = {
    "bert": Kind(),
    "roberta": Kind(epsilon=1e-5, types=1, first_position=2, padding=1),
    "distilbert": Kind(types=0, pooled=nn.relu),
}


class TokenEmbed(nn.Module):
    """Tokens to vectors: word, position and type, summed and normed. `[B, T] int32 -> [B, T, D]`.

    All tokens are of type 0, a text on its own.
    """

    kind: Kind
    vocabulary: int
    positions: int
    width: int
    rate: Any
    dtype: Any

    @nn.compact
    def __call__(self, tokens: jax.Array, train: bool) -> jax.Array:
        if padding := self.kind.padding:
            tokens = jnp.where(tokens == 0, padding, jnp.where(tokens == padding, 0, tokens))
        x = nn.Embed(self.vocabulary, self.width, embedding_init=INITIAL, name="word")(tokens)
        first = self.kind.first_position
        position = self.param("position", INITIAL, (first + self.positions, self.width))
        x = x + position[first : first + tokens.shape[1]]
        if self.kind.types:
            types = nn.Embed(self.kind.types, self.width, embedding_init=INITIAL, name="token_type")
            x = x + types(jnp.zeros((1, 1), jnp.int32))
        x = nn.LayerNorm(self.kind.epsilon, dtype=self.dtype, name="norm")(x)
        return Dropout(self.rate)(x, train)


class PostNormBlock(nn.Module):
    epsilon: float
    heads: int
    mlp_width: int
    rates: Any
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool) -> jax.Array:
        y = Attention(self.heads, self.rates["attention"], self.dtype, name="attention")(x, train, mask)
        x = x + Dropout(self.rates["residual"])(y, train)
        x = nn.LayerNorm(self.epsilon, dtype=self.dtype, name="norm_attention")(x)
        y = Mlp(self.mlp_width, "gelu", self.rates["mlp"], self.dtype, name="mlp")(x, train)
        x = x + Dropout(self.rates["residual"])(y, train)
        return nn.LayerNorm(self.epsilon, dtype=self.dtype, name="norm_mlp")(x)


class TextEncoder(nn.Module):
    epsilon: float
    depth: int
    heads: int
    mlp_width: int
    rates: Any
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool) -> jax.Array:
        for i in range(self.depth):
            block = PostNormBlock(
                self.epsilon, self.heads, self.mlp_width, self.rates, self.dtype, name=f"block_{i}"
            )
            x = block(x, mask, train)
        return x


class BERT(nn.Module):
    """Tokens `[B, T] int32` (0: padding) to logits `[B, num_classes]` and features `[B, width]`, float32.

    Features are the mean over the tokens that are not 0 ("mean", as sentence encoders are trained) or a dense
    layer of the first token with an activation ("cls", as BERT was pre-trained; for RoBERTa and DistilBERT
    this layer belongs to a classifier). Dropout: on the sum of embeddings and at the end of both residual
    branches (`residual`, BERT's own places), on attention weights, within the MLP, before the head.
    """

    num_classes: int
    vocabulary: int
    kind: str
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
        mask, kind = tokens != 0, KINDS[self.kind]
        embed = TokenEmbed(
            kind,
            self.vocabulary,
            self.positions,
            self.width,
            self.rates["residual"],
            self.dtype,
            name="embed",
        )
        encoder = TextEncoder(
            kind.epsilon, self.depth, self.heads, self.mlp_width, self.rates, self.dtype, name="encoder"
        )
        x = encoder(embed(tokens, train), mask, train).astype(jnp.float32)
        if self.pooling == "mean":
            shown = mask[..., None]
            features = jnp.where(shown, x, 0).sum(1) / jnp.maximum(shown.sum(1), 1)
        else:
            features = kind.pooled(nn.Dense(self.width, name="pooler")(x[:, 0]))
        logits = nn.Dense(self.num_classes, name="head")(Dropout(self.rates["head"])(features, train))
        return logits, features
