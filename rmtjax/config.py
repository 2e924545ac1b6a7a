"""The one configuration tree: every field, its type and its default.

A config file (`configs/*.py`) has `get_config()`, which starts from `base()` and changes values. The
defaults are the embedded digits task, so that a config says only what differs from it. The tree is plain
data and locked: an unknown or mistyped field is refused with the nearest valid name.
"""

import ast
import difflib
import importlib.util
import json
import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from ml_collections.config_dict import FieldReference, placeholder

from rmtjax.errors import InputError

# As CIFAR-10-C has them: the 15 of the benchmark, and 4 more that its authors keep for validation.
CIFAR10_C = (
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow",
    "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
)  # fmt: skip
CORRUPTIONS = (*CIFAR10_C, "speckle_noise", "gaussian_blur", "spatter", "saturate")
# Those whose constants mean on 16x16 grey images what they were made for; CIFAR's configs take the 15.
_OF_DIGITS = (
    "gaussian_noise", "shot_noise", "impulse_noise", "gaussian_blur", "contrast", "brightness", "pixelate",
)  # fmt: skip
DROPOUT_SITES = ("attention", "mlp", "residual", "head")
TEXT_STRENGTHS = (
    "synonym_replacement",
    "random_insertion",
    "random_swap",
    "random_deletion",
    "punctuation_insertion",
)
# Methods of `synthetic.method`, by what they make.
IMAGE_METHODS = ("flow", "memoriser", "gaussian", "repeat", "import")
TEXT_METHODS = ("lm", "infill", "ngram", "repeat")
TEXT_SETS = ("banking77", "clinc150", "clinc150_oos", "subj", "trec")


def base() -> ConfigDict:
    """The full tree with its defaults: fine-tuning the letters ViT on 400 handwritten digits."""
    config = ConfigDict()
    config.seed = 0  # of the run: split, order, augmentation, initialisation, dropout

    config.data = ConfigDict()
    # images: digits | letters | printed_digits | tfds:NAME | folder:PATH | npz:PATH | cifar10_1:PATH
    # texts: banking77 | clinc150 | subj | trec (below RMTJAX_DATA) | texts:PATH (.csv or .tsv, or a folder of them)
    # A PATH may be data:..., below $RMTJAX_DATA.
    config.data.source = "digits"
    config.data.classes = ()  # names of those to keep, in this order, of the source and its shifts; (): all
    config.data.image_size = 16  # side in pixels; examples of another size are resized (bilinear)
    config.data.train_examples = 400  # drawn class by class (stratified); None: all
    config.data.validation_examples = 200  # held out of the training part, stratified
    config.data.test_examples = placeholder(int)  # None: all of the test part
    config.data.max_tokens = 64  # of a text, with [CLS] and [SEP]; longer ones are cut
    # tokenizer.json or vocab.txt of a WordPiece tokenizer, or their folder, or package:NAME/FOLDER of an installed package;
    # None: the words that occur at least twice in the training examples.
    config.data.vocabulary = placeholder(str)

    config.augment = ConfigDict()  # strengths in [0, 1]; 0 is the identity, bit for bit
    config.augment.gaussian_noise = 0.0
    config.augment.shift_crop = 0.0
    config.augment.rotation = 0.0
    config.augment.random_erasing = 0.0
    config.augment.contrast_brightness = 0.0
    config.augment.auto_augment = (
        0.0  # AutoAugment, ImageNet's policy; of policies: share of images applied to
    )
    config.augment.auto_augment_cifar10 = 0.0
    config.augment.rand_augment = 0.0
    config.augment.trivial_augment = 0.0  # TrivialAugmentWide
    config.augment.aug_mix = 0.0
    config.augment.horizontal_flip = 0.0  # probability
    config.augment.vertical_flip = 0.0
    config.augment.random_resized_crop = 0.0
    config.augment.elastic = 0.0
    config.augment.colour_jitter = 0.0
    config.augment.mixup = 0.0  # alpha of the weights' distribution, Beta(alpha, alpha)
    config.augment.cutmix = 0.0  # likewise; not together with mixup
    # Of texts: strengths are shares of a text's words (EDA, Wei & Zou 2019, 1901.11196; AEDA, Karimi et al. 2021, 2108.13230).
    config.augment.text = ConfigDict()
    config.augment.text.synonym_replacement = 0.0
    config.augment.text.random_insertion = 0.0
    config.augment.text.random_swap = 0.0
    config.augment.text.random_deletion = 0.0
    config.augment.text.punctuation_insertion = 0.0
    config.augment.text.proportion = 1.0  # probability that a text is changed at all, anew in every epoch
    config.augment.text.synonyms = "corpus"  # corpus (near words in the training texts) | wordnet (by nltk)
    config.augment.text.synonym_cosine = 0.5  # corpus: words at least so alike are synonyms

    config.synthetic = ConfigDict()
    config.synthetic.share = 0.0  # add: synthetic / real, all real kept; replace: synthetic / total
    config.synthetic.mode = "add"  # add | replace
    # images: flow (matching, a network) | memoriser (flow matching's exact minimiser) | gaussian (one a class) | repeat (real
    # images again) | import (another generator's)
    # texts: lm (language model, word by word) | infill (words of training texts put anew, by a masked language model) | ngram
    # (trigrams) | repeat. They write with the words of the training split.
    config.synthetic.method = "flow"
    config.synthetic.images = placeholder(str)  # import: folder:PATH or npz:PATH, as data.source has them
    config.synthetic.examples = placeholder(int)  # in the stored set; None: as many as training examples
    config.synthetic.cache = "runs/synthetic"  # stored sets, by hash of what made them
    config.synthetic.image_size = 8  # side the generator works at; its images are then resized as the data is
    # Knobs of diversity.
    config.synthetic.guidance = 1.0  # classifier-free guidance scale; 1: none
    config.synthetic.temperature = (
        1.0  # of the noise that samples start from; of texts: words' logits are divided by it
    )
    # lm, infill: words are drawn among the most probable that have this probability together; 1: among all
    config.synthetic.top_p = 1.0
    config.synthetic.mask_share = 0.3  # infill: share of a training text's words that are put anew
    config.synthetic.edit_start = 0.0  # samples are edits of training images from this time on; 0: from noise
    config.synthetic.distinct = placeholder(int)  # different noises; None: one a sample
    # Filters; what they leave out is sampled anew.
    config.synthetic.least_confidence = 0.0  # of a judge trained on the training split, in the sample's class
    config.synthetic.least_distance = (
        0.0  # to the nearest training image, in median distances of validation images
    )
    # The network of flow, its fit and its sampler. Of lm and infill, a transformer: width, depth, heads, dtype, total_steps,
    # batch_size, learning_rate, ema.
    config.synthetic.network = "mlp"  # mlp | unet | dit
    config.synthetic.width = 128  # of a layer; unet: channels of the first level; dit: of a token
    config.synthetic.depth = 4  # blocks; unet: in each level
    config.synthetic.multipliers = (1, 2, 2)  # unet: channels of each level, in widths
    config.synthetic.patch = 2  # dit
    config.synthetic.heads = 4  # dit, lm, infill
    config.synthetic.dtype = "float32"  # of the network's computation: float32 | bfloat16
    config.synthetic.time = "uniform"  # uniform | logit_normal
    config.synthetic.sampler = "euler"  # euler | midpoint | heun
    config.synthetic.total_steps = 2000
    config.synthetic.batch_size = 128
    config.synthetic.learning_rate = 2e-3
    config.synthetic.ema = 0.999
    config.synthetic.label_dropout = 0.1
    config.synthetic.sampling_steps = 30

    config.model = ConfigDict()
    config.model.name = "vit"  # vit | resnet | mlp | bert (of texts)
    config.model.reinit = r"head/.*"  # parameters that may be missing or of another shape in init_from
    # Inputs in [0, 1] enter the model as (x - mean) / std: one number, or one a channel, the model's own in every arm.
    config.model.mean = placeholder(object)
    config.model.std = placeholder(object)
    config.model.mean = 0.5
    config.model.std = 0.5
    config.model.vit = ConfigDict({"patch": 4, "width": 128, "depth": 4, "heads": 4, "mlp_width": 512})
    config.model.vit.patch_bias = True
    config.model.vit.class_token = False
    config.model.vit.pre_norm = False  # a norm before the first block too
    config.model.vit.activation = "gelu_tanh"  # gelu | gelu_tanh | quick_gelu
    config.model.vit.epsilon = 1e-6  # of the norms
    config.model.vit.pool = "mean"  # mean | class_token
    config.model.vit.projection = placeholder(int)  # width that features are projected to; None: they are not
    config.model.resnet = ConfigDict()
    config.model.resnet.kind = "cifar"  # cifar (depth 6 n + 2) | imagenet (18, 34, 50, ...) | clip (50, 101)
    config.model.resnet.depth = 20
    config.model.resnet.width = 16  # channels of the first stage's 3x3 convolutions
    config.model.resnet.shortcut = "projection"  # projection | pad (no parameters: option A of He et al.)
    config.model.resnet.projection = 1024  # clip: width of what its attention pooling puts out
    config.model.batch_norm = ConfigDict()
    config.model.batch_norm.frozen = False  # moving means are used in training too and stay as they are
    config.model.batch_norm.separate = (
        False  # synthetic examples have their own; evaluation has the real ones
    )
    config.model.mlp = ConfigDict({"width": 256, "depth": 2})
    config.model.bert = ConfigDict({"width": 128, "depth": 2, "heads": 2, "mlp_width": 512})
    config.model.bert.positions = 512  # most tokens of a text
    config.model.bert.pooling = "cls"  # cls (first token, dense layer, tanh) | mean (over the tokens)
    # "letters" (shipped), a run directory, an Orbax checkpoint, or weights of another program (safetensors, torch, npz,
    # Keras, a folder of shards); data:PATH is below $RMTJAX_DATA, package:NAME/PATH in an installed Python package;
    # None: from scratch.
    config.model.init_from = placeholder(str)
    config.model.init_from = "letters"
    config.model.lora = ConfigDict()  # low-rank factors beside kernels; they and the head alone are trained
    config.model.lora.rank = 0  # 0: none
    config.model.lora.alpha = 16.0  # their products are multiplied by alpha / rank
    config.model.lora.targets = r".*/(query|value)/kernel"  # regex of the kernels that get them
    # A table of models.name_tables, for weights of another program; None: told by the names.
    config.model.init_names = placeholder(str)

    config.regularization = ConfigDict()
    config.regularization.dropout = 0.0
    # Those that the model lacks are passed over: attention in a ResNet other than CLIP's, attention and residual in an MLP.
    config.regularization.dropout_sites = DROPOUT_SITES
    config.regularization.weight_decay = 0.0
    # Regex of decayed parameters: no biases, no norms; of LoRA both factors, since their kernels are frozen.
    config.regularization.decayed = r".*kernel(_lora_[ab])?"
    config.regularization.label_smoothing = 0.0

    config.optim = ConfigDict()
    config.optim.name = "adamw"  # adamw (decoupled decay) | adam_l2 (coupled L2) | sgd (momentum, coupled L2)
    config.optim.learning_rate = 5e-4
    config.optim.head_learning_rate = placeholder(float)  # None: learning_rate
    config.optim.head = r"head/.*"
    config.optim.schedule = "cosine"  # cosine | linear | constant
    config.optim.warmup_steps = 30
    config.optim.warmup_epochs = placeholder(float)
    config.optim.warmup_examples = placeholder(int)
    config.optim.clip_norm = 1.0  # global norm; None: no clipping
    # Regex of parameters that stay as they were; None: nothing. With LoRA the kernels and all else but the head do anyway.
    config.optim.freeze = placeholder(str)
    config.optim.momentum = 0.9  # sgd
    config.optim.b1 = 0.9
    config.optim.b2 = 0.999
    config.optim.eps = 1e-8

    config.train = ConfigDict()
    config.train.total_steps = 300  # exactly one of the three
    config.train.total_epochs = placeholder(float)
    config.train.total_examples = placeholder(int)
    config.train.batch_size = 64  # global, over all devices and processes
    config.train.accumulate = 1  # micro-batches a step
    config.train.evaluation_batch_size = 256
    config.train.dtype = "float32"  # of the computation: float32 | bfloat16; parameters stay float32
    config.train.checkpoint_steps = 100
    config.train.evaluation_steps = 50  # validation every so many steps
    # Steps traced by jax.profiler: (first, last), or how many, from the second step of a start on. None: none.
    config.train.profile_steps = placeholder(object)
    config.train.mesh = ConfigDict({"data": -1, "fsdp": 1})  # -1: all devices that are left
    config.train.sharding = ((r".*", "fsdp"),)  # (regex, fsdp | replicate), first match wins

    config.spectra = ConfigDict()
    config.spectra.enabled = True
    config.spectra.every_steps = placeholder(
        int
    )  # a table of the weights so often; None: before and after alone
    config.spectra.conv = "slices"  # slices (one matrix per tap, pooled) | unfold

    config.evaluation = ConfigDict()
    config.evaluation.enabled = True
    config.evaluation.shifts = ("corrupted", "printed_digits")  # corrupted, or a source with the same classes
    config.evaluation.ood = ("letters_unlike_digits",)  # sources with other classes
    # Of shifts=corrupted; CIFAR10_C are the 15 of CIFAR-10-C. Images of a set that has all in one size, smaller than
    # data.image_size, are corrupted in that size and then enlarged; others in data.image_size.
    config.evaluation.corruptions = _OF_DIGITS
    config.evaluation.corrupted_examples = placeholder(int)  # test examples corrupted, stratified; None: all
    config.evaluation.bins = 15
    config.evaluation.bootstrap_samples = 1000

    config.diversity = ConfigDict()
    # Of at most 2,000 examples of each set (real, augmented, synthetic, test): images by their pixels, larger ones
    # shrunk to 32 x 32, and of the digits' size by features of the letters model; texts by words and features.
    config.diversity.enabled = True
    config.diversity.neighbours = 3  # k of coverage
    return config.lock()


def smoke(config: ConfigDict) -> ConfigDict:
    """The same config, shrunk in place for tests: seconds instead of minutes. Returned for chaining."""
    config.data.train_examples = min(config.data.train_examples or 40, 40)
    config.data.validation_examples = 20
    config.data.test_examples = 40
    config.train.update(total_steps=4, total_epochs=None, total_examples=None, batch_size=8)
    config.train.update(checkpoint_steps=2, evaluation_steps=2, evaluation_batch_size=32)
    config.optim.update(warmup_steps=1, warmup_epochs=None, warmup_examples=None)
    config.synthetic.update(width=32, depth=1, total_steps=10, batch_size=16, sampling_steps=3)
    config.evaluation.corruptions = config.evaluation.corruptions[:2]
    config.evaluation.bootstrap_samples = 20
    if config.model.init_from is None:
        config.model.vit.update(width=16, depth=2, heads=2, mlp_width=32)
        if config.model.vit.projection is not None:
            config.model.vit.projection = 8
        config.model.resnet.update(
            depth=8 if config.model.resnet.kind == "cifar" else 14, width=4, projection=8
        )
        config.model.mlp.update(width=16)
        config.model.bert.update(width=16, depth=2, heads=2, mlp_width=32)
    return config


def load(path: str, overrides: Iterable[str] = ()) -> ConfigDict:
    """A config from a file and `field.name=value` overrides, checked and locked.

    Raises:
      InputError: no such file, no `get_config`, an unknown or mistyped field, a value out of range.
    """
    file = pathlib.Path(path)
    if not file.is_file():
        raise InputError(
            f"no config file {path!r}: give --config the path of a Python file such as configs/synthetic.py"
        )
    spec = importlib.util.spec_from_file_location(f"rmtjax_config_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise InputError(
            f"config file {path!r} is not a Python file: it must end in .py and define get_config()"
        )
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        if not hasattr(module, "get_config"):
            raise InputError(f"config file {path!r} defines no get_config(): start from the ones in configs/")
        config = module.get_config()
    except (AttributeError, KeyError) as error:
        quoted = re.search(r"""["'](\w+)\\*["']""", str(error))
        missing = quoted.group(1) if quoted else str(error)
        raise InputError(f"config file {path!r}: {_unknown(missing, base())}") from error
    except TypeError as error:
        raise InputError(f"config file {path!r}: {str(error).splitlines()[0]}") from error
    for override in overrides:
        _override(config, override)
    validate(config)
    return config


def _leaves(config: ConfigDict, prefix: str = "") -> Iterator[str]:
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _unknown(name: str, config: ConfigDict) -> str:
    names = list(_leaves(config))
    near = difflib.get_close_matches(name, names, 1, 0.5)
    if not near:  # the last part alone may be what was misspelt
        tails = {n.rsplit(".", 1)[-1]: n for n in reversed(names)} | {section: section for section in config}
        near = [tails[t] for t in difflib.get_close_matches(name.rsplit(".", 1)[-1], list(tails), 1, 0.5)]
    hint = f"did you mean {near[0]!r}?" if near else f"the sections are {', '.join(config.keys())}"
    return f"unknown field {name!r}: {hint}"


def _override(config: ConfigDict, override: str) -> None:
    name, separator, text = override.partition("=")
    if not separator:
        raise InputError(f"override {override!r} has no value: write --config.{name}=VALUE")
    if name not in set(_leaves(config)):
        raise InputError(_unknown(name, config))
    *sections, field = name.split(".")
    node = config
    for section in sections:
        node = node[section]
    kind = node.get_type(field)
    try:
        value: Any = text if kind is str and text != "None" else ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if kind is tuple and isinstance(value, str):
        value = tuple(part for part in value.split(",") if part)
    if isinstance(value, list):
        value = tuple(value)
    try:
        node[field] = value
    except TypeError as error:
        raise InputError(
            f"{name}={text!r} is not of the right type: {_KINDS.get(kind, kind.__name__)} is wanted"
        ) from error


_UNITS = ("steps", "epochs", "examples")
_KINDS = {int: "an integer", float: "a number", str: "a text", bool: "True or False", tuple: "a list a,b,c"}

_IN = {
    "synthetic.mode": ("add", "replace"),
    "synthetic.method": tuple(dict.fromkeys(IMAGE_METHODS + TEXT_METHODS)),
    "synthetic.network": ("mlp", "unet", "dit"),
    "synthetic.dtype": ("float32", "bfloat16"),
    "synthetic.time": ("uniform", "logit_normal"),
    "synthetic.sampler": ("euler", "midpoint", "heun"),
    "model.name": ("vit", "resnet", "mlp", "bert"),
    "model.resnet.kind": ("cifar", "imagenet", "clip"),
    "model.resnet.shortcut": ("projection", "pad"),
    "model.vit.activation": ("gelu", "gelu_tanh", "quick_gelu"),
    "model.vit.pool": ("mean", "class_token"),
    "model.bert.pooling": ("cls", "mean"),
    "augment.text.synonyms": ("corpus", "wordnet"),
    "optim.name": ("adamw", "adam_l2", "sgd"),
    "optim.schedule": ("cosine", "linear", "constant"),
    "train.dtype": ("float32", "bfloat16"),
    "spectra.conv": ("slices", "unfold"),
}
# Fields in which None means something; everywhere else it is a slip.
_OPTIONAL = (
    "data.train_examples", "data.test_examples", "data.vocabulary", "synthetic.examples", "synthetic.images", "synthetic.distinct", "model.init_from", "model.init_names", "model.vit.projection", "optim.head_learning_rate",
    "optim.clip_norm", "optim.freeze", "spectra.every_steps", "evaluation.corrupted_examples", "train.profile_steps",
    *(f"{name}_{unit}" for name in ("train.total", "optim.warmup") for unit in _UNITS),
)  # fmt: skip
_UNIT = (  # closed or half-open parts of [0, 1]
    *(f"augment.{name}" for name, value in base().augment.items() if name != "text"),
    *(f"augment.text.{name}" for name, value in base().augment.text.items() if name != "synonyms"),
    "synthetic.share", "synthetic.label_dropout", "synthetic.least_confidence", "synthetic.mask_share",
)  # fmt: skip
_BELOW_ONE = (
    "synthetic.edit_start",
    "optim.momentum",
    "optim.b1",
    "optim.b2",
    "synthetic.ema",
    "regularization.dropout",
    "regularization.label_smoothing",
)
_AT_LEAST_ZERO = ("regularization.weight_decay", "synthetic.guidance", "synthetic.temperature", "synthetic.least_distance", "optim.learning_rate", "synthetic.learning_rate", "optim.head_learning_rate",
                  "optim.warmup_steps", "optim.warmup_epochs", "optim.warmup_examples", "model.lora.rank", "seed")  # fmt: skip
_AT_LEAST_ONE = (
    "model.vit.patch", "model.vit.width", "model.vit.depth", "model.vit.heads", "model.vit.mlp_width", "model.vit.projection", "model.resnet.projection",
    "model.resnet.depth", "model.resnet.width", "model.mlp.width", "model.mlp.depth", "data.image_size", "data.train_examples", "data.test_examples", "synthetic.examples", "synthetic.image_size",
    *(f"model.bert.{name}" for name in ("width", "depth", "heads", "mlp_width", "positions")),
    "synthetic.width", "synthetic.depth", "synthetic.patch", "synthetic.heads", "synthetic.distinct", "synthetic.total_steps", "synthetic.batch_size", "synthetic.sampling_steps",
    "train.batch_size", "train.accumulate", "train.evaluation_batch_size", "train.checkpoint_steps",
    "train.evaluation_steps", "train.total_steps", "train.total_examples", "evaluation.bins",
    "evaluation.bootstrap_samples", "evaluation.corrupted_examples", "diversity.neighbours", "spectra.every_steps",
)  # fmt: skip


def _are_rules(rules: Any) -> bool:
    try:
        return all(bool(re.compile(regex)) and value in ("fsdp", "replicate") for regex, value in rules)
    except (ValueError, TypeError, re.error):
        return False


def _are_steps(value: Any) -> bool:
    steps = value if isinstance(value, tuple) else (1, value)
    whole = all(isinstance(step, int) and not isinstance(step, bool) for step in steps)
    return whole and len(steps) == 2 and 1 <= steps[0] <= steps[1]


def _are_numbers(value: Any) -> bool:
    values = value if isinstance(value, tuple) and value else (value,)
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def get(config: ConfigDict, name: str) -> Any:
    """The value of a dotted field name."""
    node: Any = config
    for part in name.split("."):
        node = node[part]
    return node.get() if isinstance(node, FieldReference) else node


def validate(config: ConfigDict) -> None:
    """Checks ranges and choices before any work. Raises InputError that names the field, value and mend."""

    def check(names: Iterable[str], holds: Any, wanted: str) -> None:
        for name in names:
            value = get(config, name)
            if value is not None and not holds(value):
                raise InputError(f"{name}={value!r} is out of range: it must be {wanted}")

    for name in _leaves(config):
        if name not in _OPTIONAL and get(config, name) is None:
            raise InputError(f"{name}=None is not a value: leave the field as it is, or give it one")
    check(_UNIT, lambda v: 0 <= v <= 1, "between 0 and 1")
    check(_BELOW_ONE, lambda v: 0 <= v < 1, "at least 0 and below 1")
    check(_AT_LEAST_ZERO, lambda v: v >= 0, "0 or more")
    check(_AT_LEAST_ONE, lambda v: v >= 1, "1 or more")
    check(("synthetic.top_p",), lambda v: 0 < v <= 1, "above 0 and at most 1")
    check(("data.validation_examples",), lambda v: v >= 1, "1 or more")
    check(("data.max_tokens",), lambda v: v >= 3, "3 or more: one stands before a text and one after it")
    check(
        ("optim.clip_norm", "train.total_epochs", "optim.eps", "model.vit.epsilon", "model.lora.alpha"),
        lambda v: v > 0,
        "above 0",
    )
    check(("model.mean", "model.std"), _are_numbers, "a number, or a list of one number a channel")
    check(("model.mean", "model.std"), lambda v: np.size(v) in (1, 3), "one number, or three, one a channel")
    if np.size(config.model.mean) != np.size(config.model.std):
        raise InputError(
            f"model.mean={config.model.mean} and model.std={config.model.std} are not alike: give both one number, or three"
        )
    check(("model.std",), lambda v: np.min(v) > 0, "above 0")
    check(
        ("train.mesh.data", "train.mesh.fsdp"),
        lambda v: v == -1 or v >= 1,
        "1 or more, or -1 for all that are left",
    )
    check(("train.profile_steps",), _are_steps, "a number of steps, or (first, last)")
    check(("train.sharding",), _are_rules, "pairs of a regular expression and 'fsdp' or 'replicate'")
    for name, choices in _IN.items():
        check((name,), lambda v, c=choices: v in c, f"one of {', '.join(choices)}")
    check(
        ("regularization.dropout_sites",),
        lambda v: set(v) <= set(DROPOUT_SITES),
        f"among {', '.join(DROPOUT_SITES)}",
    )
    check(
        ("evaluation.corruptions",), lambda v: set(v) <= set(CORRUPTIONS), f"among {', '.join(CORRUPTIONS)}"
    )
    for name in (
        "model.reinit",
        "model.lora.targets",
        "regularization.decayed",
        "optim.head",
        "optim.freeze",
    ):
        try:
            re.compile(get(config, name) or "")
        except re.error as error:
            raise InputError(f"{name}={get(config, name)!r} is not a regular expression: {error}") from error
    if config.train.batch_size % config.train.accumulate:
        raise InputError(
            f"train.batch_size={config.train.batch_size} is not a multiple of train.accumulate={config.train.accumulate}"
        )
    if config.augment.mixup and config.augment.cutmix:
        raise InputError(
            f"augment.mixup={config.augment.mixup} and augment.cutmix={config.augment.cutmix} cannot go together: set one to 0"
        )
    _check_kind(config)
    _check_regularization(config)
    _check_generator(config.synthetic)
    vit = config.model.vit
    if config.model.name == "vit" and vit.width % vit.heads:
        raise InputError(f"model.vit.width={vit.width} is not a multiple of model.vit.heads={vit.heads}")
    bert = config.model.bert
    if config.model.name == "bert" and bert.width % bert.heads:
        raise InputError(f"model.bert.width={bert.width} is not a multiple of model.bert.heads={bert.heads}")
    if config.model.name == "bert" and config.data.max_tokens > bert.positions:
        raise InputError(
            f"data.max_tokens={config.data.max_tokens} is more than model.bert.positions={bert.positions}: lower it"
        )
    if config.model.name == "vit" and config.data.image_size % vit.patch:
        raise InputError(
            f"data.image_size={config.data.image_size} is not a multiple of model.vit.patch={vit.patch}"
        )
    if config.model.name == "vit" and vit.pool == "class_token" and not vit.class_token:
        raise InputError("model.vit.pool='class_token' needs model.vit.class_token=True")
    duration(config, "train.total", 1)
    duration(config, "optim.warmup", 1)


def _check_generator(synthetic: ConfigDict) -> None:
    """The parts of a generator must fit each other."""
    size = synthetic.image_size
    if synthetic.method == "import" and not synthetic.images:
        raise InputError(
            "synthetic.method='import' needs synthetic.images: folder:PATH or npz:PATH of images and their classes"
        )
    if synthetic.method in ("lm", "infill") and synthetic.width % synthetic.heads:
        raise InputError(
            f"synthetic.width={synthetic.width} is not a multiple of synthetic.heads={synthetic.heads}"
        )
    if synthetic.method != "flow":
        return
    levels = synthetic.multipliers
    if synthetic.network == "unet" and not (
        levels and all(isinstance(m, int) and m >= 1 for m in levels) and size % 2 ** (len(levels) - 1) == 0
    ):
        raise InputError(
            f"synthetic.multipliers={levels!r} must be whole numbers, and so many that "
            f"synthetic.image_size={size} can be halved between them"
        )
    if synthetic.network == "dit":
        if size % synthetic.patch:
            raise InputError(
                f"synthetic.image_size={size} is not a multiple of synthetic.patch={synthetic.patch}"
            )
        if synthetic.width % synthetic.heads or synthetic.width % 4:
            raise InputError(
                f"synthetic.width={synthetic.width} is not a multiple of 4 and of synthetic.heads={synthetic.heads}"
            )


def is_text(source: str) -> bool:
    """Whether a source of this name holds texts, not images."""
    return source in TEXT_SETS or source.startswith("texts:")


def _check_kind(config: ConfigDict) -> None:
    """Model and augmentation must be for what the source holds."""
    text, source = is_text(config.data.source), config.data.source
    if text != (config.model.name == "bert"):
        holds, wanted = ("texts", "bert") if text else ("images", "vit, resnet or mlp")
        raise InputError(
            f"model.name={config.model.name!r} does not fit data.source={source!r}, which holds {holds}: use {wanted}"
        )
    of_images = [name for name in config.augment if name != "text" and config.augment[name]]
    of_texts = [f"text.{name}" for name in TEXT_STRENGTHS if config.augment.text[name]]
    wrong = of_images if text else of_texts
    if wrong:
        other, holds = ("images", "texts") if text else ("texts", "images")
        raise InputError(
            f"augment.{wrong[0]} is for {other}, and data.source={source!r} holds {holds}: set it back to 0"
        )
    if config.synthetic.share:
        check_generator_kind(config)
    if text and config.evaluation.enabled and "corrupted" in config.evaluation.shifts:
        raise InputError(
            f"evaluation.shifts=corrupted is for images, and data.source={source!r} holds texts: leave it out"
        )


def check_generator_kind(config: ConfigDict) -> None:
    """The generator must make what the source holds. Raises InputError."""
    synthetic, source = config.synthetic, config.data.source
    holds, methods = ("texts", TEXT_METHODS) if is_text(source) else ("images", IMAGE_METHODS)
    if synthetic.method not in methods:
        raise InputError(
            f"synthetic.method={synthetic.method!r} does not make {holds}, which data.source={source!r} holds: "
            f"use {', '.join(methods[:-1])} or {methods[-1]}"
        )
    if is_text(source) and synthetic.least_distance:
        raise InputError(
            f"synthetic.least_distance={synthetic.least_distance} is for images, and data.source={source!r} holds texts: "
            "set it back to 0"
        )


def dropout_sites(config: ConfigDict) -> tuple[str, ...]:
    """Those of `DROPOUT_SITES` that the model of a config has."""
    absent = {
        "mlp": ("attention", "residual") if config.model.mlp.depth > 1 else ("attention", "residual", "mlp"),
        "resnet": () if config.model.resnet.kind == "clip" else ("attention",),
    }.get(config.model.name, ())
    return tuple(site for site in DROPOUT_SITES if site not in absent)


def _check_regularization(config: ConfigDict) -> None:
    """What is asked for must be able to act in the model."""
    sites, there = config.regularization.dropout_sites, dropout_sites(config)
    if config.regularization.dropout and not set(sites) & set(there):
        raise InputError(
            f"regularization.dropout={config.regularization.dropout} acts nowhere: of dropout_sites={', '.join(sites) or '()'} "
            f"model.name={config.model.name!r} has none, but {', '.join(there)}"
        )
    for name, wanted in config.model.batch_norm.items():
        if wanted and config.model.name != "resnet":
            raise InputError(
                f"model.batch_norm.{name}=True is for resnet: model.name={config.model.name!r} has no batch norm, set it to False"
            )


def duration(config: ConfigDict, name: str, num_examples: int) -> int:
    """A duration in steps from whichever of `<name>_steps`, `_epochs`, `_examples` is set (exactly one).

    Args:
      name: e.g. `train.total`.
      num_examples: examples in an epoch of the set trained on.
    """
    given = {unit: get(config, f"{name}_{unit}") for unit in _UNITS}
    given = {unit: value for unit, value in given.items() if value is not None}
    if len(given) != 1:
        fields = ", ".join(f"{name}_{unit}={value}" for unit, value in given.items()) or "none of them is set"
        raise InputError(
            f"give exactly one of {name}_steps, {name}_epochs, {name}_examples ({fields}): set the others to None"
        )
    ((unit, value),) = given.items()
    examples = {"steps": 0, "epochs": value * num_examples, "examples": value}[unit]
    return int(value) if unit == "steps" else -(-int(examples) // config.train.batch_size)


def to_json(config: ConfigDict) -> str:
    """The config as JSON text, sorted, one field a line: what a run stores and what hashes are made of."""
    return json.dumps(config.to_dict(), indent=2, sort_keys=True)


def differing_fields(config: ConfigDict, stored: dict[str, Any]) -> list[str]:
    """`field: stored -> now` for each field in which a stored config (parsed JSON) differs from this one."""

    def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key, value in tree.items():
            out |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
        return out

    now, then = flat(json.loads(to_json(config))), flat(stored)
    return [
        f"{name}: {then.get(name, 'absent')!r} -> {now.get(name, 'absent')!r}"
        for name in sorted(now.keys() | then.keys())
        if now.get(name, "absent") != then.get(name, "absent")
    ]


def from_stored(stored: dict[str, Any]) -> ConfigDict:
    """The config that a run stored as JSON.

    Raises:
      InputError: it has a field that this version does not know.
    """
    config = base()

    def fill(node: ConfigDict, values: dict[str, Any], prefix: str) -> None:
        for key, value in values.items():
            if key not in node:
                raise InputError(
                    f"the stored config has a field {prefix}{key!r} that this version of rmtjax does not know"
                )
            if isinstance(value, dict):
                fill(node[key], value, f"{prefix}{key}.")
            else:
                node[key] = _tuples(value)

    fill(config, stored, "")
    return config


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value
