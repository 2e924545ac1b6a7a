"""Two language models of labelled texts, of one network: one that writes on, and one that fills gaps in.

`lm` gives the words one after the other, after the class (as Kumar et al. 2020, arXiv 2003.02245, who prepend
the label's name). `infill` sees a text with gaps and its class, and says what stood there (CBERT; Wu et al.
2019, arXiv 1812.06705), from gaps of any share, drawn anew for every text: so one fit serves every
`synthetic.mask_share`.

Texts are rows of words' numbers, int32 [n, w], from 1 to `words`, and 0 where a text has ended.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Float, Int

from rmtjax.config import DROPOUT_SITES
from rmtjax.generate import batching
from rmtjax.models.vit import Block
from rmtjax.train.step import LossFn, named_key

DROPOUT = 0.1  # while it is fitted, at every site of the blocks: training splits are small
PASSES = 8  # turns in which gaps are filled, each seeing what those before have filled in
BATCH = 128  # texts sampled at a time: logits of as many words for each of their places are held

Sample = Callable[..., Int[np.ndarray, "n w"]]


class LanguageModel(nn.Module):
    """`rows [B, w], label [B]` to logits of the word in each place (0: the end), float32 [B, w, words + 1].

    A token of the class comes first, then the words; `words + 1` stands for a gap. If causal, the logits of a
    place come from the class and the words before it, else from all words. Pre-norm blocks; the output has
    the words' embeddings for weights.

    Attributes:
      words: of the vocabulary.
      dtype: of the computation.
    """

    num_classes: int
    words: int
    width: int
    depth: int
    heads: int
    causal: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, rows: jax.Array, label: jax.Array, train: bool, place: jax.Array | None = None
    ) -> jax.Array:
        """With `place`, a scalar, the logits of that place alone, [B, words + 1]."""
        length = rows.shape[1]
        initial = nn.initializers.normal(0.02)
        of_class = nn.Embed(self.num_classes, self.width, embedding_init=initial, name="label")(label)
        embed = nn.Embed(self.words + 2, self.width, embedding_init=initial, name="word")
        position = self.param("position", initial, (length + 1, self.width))
        x = jnp.concatenate([of_class[:, None], embed(rows)], 1) + position
        x = x.astype(self.dtype)
        if self.causal:
            seen = jnp.tril(jnp.ones((1, length + 1, length + 1), bool))
        else:
            seen = jnp.concatenate([jnp.ones((len(rows), 1), bool), rows != 0], 1)
        rates = dict.fromkeys(DROPOUT_SITES, DROPOUT)
        for i in range(self.depth):
            block = Block(self.heads, 4 * self.width, "gelu_tanh", 1e-6, rates, self.dtype, name=f"block_{i}")
            x = block(x, train, seen)
        x = nn.LayerNorm(name="norm")(x.astype(jnp.float32))
        x = x[:, :-1] if self.causal else x[:, 1:]  # the place of word j, or the one before it
        if place is not None:
            x = jax.lax.dynamic_index_in_dim(x, place, 1, keepdims=False)
        bias = self.param("bias", nn.initializers.zeros, (self.words + 1,))
        return embed.attend(x)[..., : self.words + 1] + bias


def make_init(model: LanguageModel, length: int) -> Callable[[jax.Array], tuple[Any, Any]]:
    """`key -> params, model_state` for rows of `length` words."""

    def init(key: jax.Array) -> tuple[Any, Any]:
        rows = jnp.ones((1, length), jnp.int32)
        return model.init(key, rows, jnp.zeros(1, jnp.int32), False)["params"], {}

    return init


def make_loss(model: LanguageModel) -> LossFn:
    """Mean negative log-likelihood in nats of each word and end (`lm`), or of each gap's word (`infill`)."""

    def loss_fn(params: Any, model_state: Any, batch: Any, rngs: Any) -> Any:
        gap_key, drop_key = jax.random.split(rngs["dropout"])
        total, count = _likelihood(model, params, batch, gap_key, drop_key)
        return total / jnp.maximum(count, 1), (model_state, {})

    return loss_fn


def make_mean_loss(model: LanguageModel, draws: int = 8) -> Callable[..., float]:
    """`mean_loss(params, rows [n, w], labels [n])`: the loss without dropout over fixed draws of gaps."""

    @jax.jit
    def mean(params: Any, batch: Any) -> jax.Array:
        def of_text(example: Any) -> tuple[jax.Array, jax.Array]:
            gap_key = jax.random.fold_in(jax.random.key(0), example["number"])
            alone = {name: value[None] for name, value in example.items()}
            return _likelihood(model, params, alone, gap_key, None)

        total, count = jax.lax.map(of_text, batch, batch_size=BATCH)
        return total.sum() / jnp.maximum(count.sum(), 1)

    def mean_loss(params: Any, rows: Int[np.ndarray, "n w"], labels: Int[np.ndarray, " n"]) -> float:
        times = 1 if model.causal else draws
        batch = {"inputs": np.tile(rows, (times, 1)), "label": np.tile(labels, times)}
        return float(mean(params, batch | {"number": np.arange(len(batch["label"]), dtype=np.uint32)}))

    return mean_loss


def _likelihood(
    model: LanguageModel, params: Any, batch: Any, gap_key: jax.Array, drop_key: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """Sum of the negative log-likelihoods, and how many there are."""
    rows = batch["inputs"]
    if model.causal:
        shown = rows
        asked = jnp.pad(rows[:, :-1] != 0, ((0, 0), (1, 0)), constant_values=True)  # the words and the end
    else:
        share_key, place_key = jax.random.split(gap_key)
        share = jax.random.uniform(share_key, (len(rows), 1))
        asked = (jax.random.uniform(place_key, rows.shape) < share) & (rows != 0)
        shown = jnp.where(asked, model.words + 1, rows)
    rngs = {} if drop_key is None else {"dropout": drop_key}
    logits = model.apply({"params": params}, shown, batch["label"], drop_key is not None, rngs=rngs)
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), rows[..., None], -1)[..., 0]
    return -jnp.where(asked, chosen, 0).sum(), asked.sum()


def nucleus(
    logits: Float[jax.Array, "... k"], temperature: float | int, top_p: float | int
) -> Float[jax.Array, "... k"]:
    """Logits to draw from: those of the most probable words, divided by the temperature; the others are -inf.

    Words are kept until they have the probability `top_p` together (Holtzman et al. 2020, arXiv 1904.09751).
    Temperature 0 leaves the most probable word.
    """
    best = jnp.argmax(logits, -1, keepdims=True)
    if temperature == 0:
        return jnp.where(jnp.arange(logits.shape[-1]) == best, 0.0, -jnp.inf)
    logits = logits / temperature
    if top_p >= 1:
        return logits
    order = jnp.argsort(-logits, -1)
    probability = jax.nn.softmax(jnp.take_along_axis(logits, order, -1))
    kept = jnp.cumsum(probability, -1) - probability < top_p
    return jnp.where(jnp.take_along_axis(kept, jnp.argsort(order, -1), -1), logits, -jnp.inf)


def make_writer(
    model: LanguageModel,
    length: int,
    *,
    temperature: float | int,
    top_p: float | int,
    seed: int,
    mesh: jax.sharding.Mesh,
) -> Sample:
    """`sample(params, labels [n], numbers [n]) -> rows [n, length]`, written word by word.

    Sample number i is a function of (seed, i) and its class. No text is empty.
    """
    key = named_key(seed, "samples")

    def write(params: Any, batch: dict[str, jax.Array]) -> jax.Array:
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(batch["index"])

        def step(carry: tuple[jax.Array, jax.Array], place: jax.Array) -> tuple[Any, None]:
            rows, going = carry
            logits = model.apply({"params": params}, rows, batch["label"], False, place)
            logits = logits.at[:, 0].add(jnp.where(place == 0, -jnp.inf, 0))
            word = _draw_words(keys, place, nucleus(logits, temperature, top_p))
            word = jnp.where(going, word, 0)
            return (rows.at[:, place].set(word), word != 0), None

        n = len(batch["label"])
        start = (jnp.zeros((n, length), jnp.int32), jnp.ones(n, bool))
        return jax.lax.scan(step, start, jnp.arange(length))[0][0]

    run = batching.in_batches(write, mesh, BATCH)
    return lambda params, labels, numbers: run(params, _columns(labels, numbers))


def make_filler(
    model: LanguageModel,
    *,
    mask_share: float | int,
    temperature: float | int,
    top_p: float | int,
    seed: int,
    mesh: jax.sharding.Mesh,
) -> Sample:
    """`sample(params, labels [n], numbers [n], rows [n, w]) -> rows [n, w]`: texts some words drawn anew.

    Of each text round(mask_share * its words), and one at least unless the share is 0, are taken out at
    places drawn at random, and filled in over 8 turns, in a random order. Lengths stay. Sample number i is a
    function of (seed, i), its class and its text.
    """
    key = named_key(seed, "samples")
    gap = model.words + 1

    def fill(params: Any, batch: dict[str, jax.Array]) -> jax.Array:
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(batch["index"])
        rows = batch["rows"]
        there = rows != 0
        tie = jax.vmap(lambda k: jax.random.uniform(jax.random.fold_in(k, 0), rows.shape[1:]))(keys)
        rank = jnp.argsort(jnp.argsort(jnp.where(there, tie, 2.0), -1), -1)
        count = jnp.round(mask_share * there.sum(-1, keepdims=True)).astype(jnp.int32)
        count = jnp.maximum(count, 1 if mask_share > 0 else 0)
        out = there & (rank < count)
        turn = rank * PASSES // jnp.maximum(count, 1)

        def step(rows: jax.Array, this: jax.Array) -> tuple[jax.Array, None]:
            logits = model.apply({"params": params}, rows, batch["label"], False)
            logits = logits.at[..., 0].set(-jnp.inf)
            word = _draw_words(keys, this + 1, nucleus(logits, temperature, top_p))
            return jnp.where(out & (turn == this), word, rows), None

        return jax.lax.scan(step, jnp.where(out, gap, rows), jnp.arange(PASSES))[0]

    run = batching.in_batches(fill, mesh, BATCH)
    return lambda params, labels, numbers, rows: run(params, _columns(labels, numbers) | {"rows": rows})


def _draw_words(keys: jax.Array, turn: jax.Array, logits: jax.Array) -> jax.Array:
    """A word for each of the logits `[n, ..., words]`, by each sample's own stream."""
    draw = jax.vmap(lambda key, of: jax.random.categorical(jax.random.fold_in(key, turn), of))
    return draw(keys, logits).astype(jnp.int32)


def _columns(labels: Int[np.ndarray, " n"], numbers: Int[np.ndarray, " n"]) -> dict[str, np.ndarray]:
    return {"index": numbers.astype(np.uint32), "label": labels.astype(np.int32)}
