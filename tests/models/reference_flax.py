"""The ViTs of vit_jax and big_vision, with flax's attention and their modules' names, for comparison."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util
from reference_cases import CASES, CLASSES, random_input, random_weights


class Block(nn.Module):
    names: dict[str, str]

    @nn.compact
    def __call__(self, x):
        y = nn.LayerNorm(name=self.names["norm_1"])(x)
        x = x + nn.MultiHeadDotProductAttention(2, name=self.names["attention"])(y, y)
        y = nn.LayerNorm(name=self.names["norm_2"])(x)

        class Mlp(nn.Module):
            @nn.compact
            def __call__(self, y):
                return nn.Dense(16, name="Dense_1")(nn.gelu(nn.Dense(32, name="Dense_0")(y)))

        return x + Mlp(name=self.names["mlp"])(y)


class Transformer(nn.Module):
    names: dict[str, str]

    @nn.compact
    def __call__(self, x):
        for i in range(2):
            x = Block(self.names, name=f"encoderblock_{i}")(x)
        return nn.LayerNorm(name="encoder_norm")(x)


class FlaxViT(nn.Module):
    big_vision: bool

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(16, (8, 8), strides=(8, 8), padding="VALID", name="embedding")(x)
        x = x.reshape(len(x), -1, 16)
        numbers = (1, 0, 0) if self.big_vision else (2, 1, 3)
        names = {
            "norm_1": "LayerNorm_0", "norm_2": f"LayerNorm_{numbers[0]}",
            "attention": f"MultiHeadDotProductAttention_{numbers[1]}", "mlp": f"MlpBlock_{numbers[2]}",
        }  # fmt: skip
        zeros = nn.initializers.zeros
        if self.big_vision:
            x = x + self.param("pos_embedding", zeros, (1, x.shape[1], 16))
            x = Transformer(names, name="Transformer")(x).mean(1)
        else:
            token = self.param("cls", zeros, (1, 1, 16))
            x = jnp.concatenate([jnp.tile(token, (len(x), 1, 1)), x], 1)
            x = x + self.param("Transformer/posembed_input/pos_embedding", zeros, (1, x.shape[1], 16))
            x = Transformer(names, name="Transformer")(x)[:, 0]
        return nn.Dense(CLASSES, name="head")(x)


def flax_outputs(name, size, seed):
    """Shapes of the weights by their names in a file, logits, and `{our stage: output}`."""
    model, x = FlaxViT(name == "big_vision"), jnp.asarray(random_input(size))
    fresh = jax.eval_shape(lambda: model.init(jax.random.key(0), x))["params"]
    root = "params/" if name == "big_vision" else ""  # in the files of each
    shapes = {root + key: leaf.shape for key, leaf in traverse_util.flatten_dict(fresh, sep="/").items()}
    weights = {key.removeprefix(root): x for key, x in random_weights(shapes, seed).items()}
    tree = {tuple(key.split("/")) if key not in fresh else (key,): x for key, x in weights.items()}
    logits, state = model.apply(
        {"params": traverse_util.unflatten_dict(tree)}, x, capture_intermediates=True, mutable="intermediates"
    )
    out = traverse_util.flatten_dict(state["intermediates"], sep="/")
    stages = {ours: np.asarray(out[f"{theirs}/__call__"][0]) for ours, theirs in CASES[name].stages.items()}
    return shapes, np.asarray(logits), stages
