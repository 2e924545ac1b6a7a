"""Every field of a config: its default, what it means, and which values it may have.

A config file (`configs/*.py`) has `get_config()`, which starts from `base()` and changes values. The
defaults are the embedded digits task, so that a config says only what differs from it. The tree is plain
data and locked: an unknown or mistyped field is refused with the nearest valid name. The file itself is
Python that is executed: read a config from somebody else before you run it.

    "name": Field(default, check, "what it means")
    "name": optional(type, default, check, "what it means")    # None is a value too; its meaning is said
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from rmtjax.config.checks import (
    ABOVE_ZERO,
    ABOVE_ZERO_TO_ONE,
    AT_LEAST_ONE,
    AT_LEAST_ZERO,
    BELOW_ONE,
    MESH_AXIS,
    SHARE,
    TOKENS,
    Check,
    one_of,
    per_channel,
    positive_per_channel,
    regex,
    selection,
    severities,
    sharding_rules,
    some_of,
    steps,
    widths,
)

# As CIFAR-10-C has them: the 15 of the benchmark, and 4 more that its authors keep for validation.
CIFAR10_C = (
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
    "snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
)  # fmt: skip
CORRUPTIONS = (*CIFAR10_C, "speckle_noise", "gaussian_blur", "spatter", "saturate")
# The corruptions whose constants, made for 32 x 32 colour images, make sense on 16 x 16 grey ones too.
DIGITS_CORRUPTIONS = (
    "gaussian_noise", "shot_noise", "impulse_noise", "gaussian_blur", "contrast", "brightness", "pixelate",
)  # fmt: skip
DROPOUT_SITES = ("attention", "mlp", "residual", "head")
# Methods of `synthetic.method`, by what they make.
IMAGE_METHODS = ("flow", "memoriser", "gaussian", "repeat", "import")
TEXT_METHODS = ("lm", "infill", "ngram", "repeat", "import")
TEXT_SETS = ("banking77", "clinc150", "clinc150_oos", "subj", "trec")


class Field(NamedTuple):
    default: Any
    check: Check | None
    about: str
    may_be_none: bool = False
    kind: type | None = None  # of values; None: the default's


def optional(kind: type, default: Any, check: Check | None, about: str) -> Field:
    """A field in which None means something."""
    return Field(default, check, about, True, kind)


def strength(about: str) -> Field:
    """A strength of augmentation, off by default."""
    return Field(0.0, SHARE, about)


def dimension(default: int, about: str) -> Field:
    """A width, depth or number that is at least 1."""
    return Field(default, AT_LEAST_ONE, about)


FIELDS: dict[str, Any] = {
    "seed": Field(0, AT_LEAST_ZERO, "of the run: split, order, augmentation, initialisation, dropout"),
    "data": {
        "source": Field(
            "digits",
            None,
            "images: digits, letters, printed_digits, tfds:NAME, folder:PATH, npz:PATH, cifar10_1:PATH; "
            "texts: banking77, clinc150, subj, trec, texts:PATH (.csv, .tsv, .jsonl); a PATH may be "
            "data:..., below $RMTJAX_DATA",
        ),
        "classes": Field((), None, "classes to keep, in this order, of the source and its shifts; (): all"),
        "image_size": dimension(16, "side in pixels; examples of another size are resized (bilinear)"),
        "train_examples": optional(int, 400, AT_LEAST_ONE, "drawn class by class (stratified); None: all"),
        # By the diversity of the training examples within their classes, the numbers of which stay: a number
        # is the quantile of what an example adds to those before it (`diversity.select`).
        "select": Field("random", selection, "random, least, most, or a number between 0 (least) and 1"),
        "select_features": Field(
            "model", one_of("model", "inputs"), "of select: those of init_from, or pixels or counts of tokens"
        ),
        "distinct": optional(
            int, None, AT_LEAST_ONE, "training examples that differ, repeated to train_examples; None: all"
        ),
        "validation_examples": dimension(200, "held out of the training part, stratified"),
        "test_examples": optional(int, None, AT_LEAST_ONE, "None: all of the test part"),
        "label_noise": Field(
            0.0, SHARE, "share of training examples with a wrong label, drawn evenly from the other classes"
        ),
        "max_tokens": Field(64, TOKENS, "of a text, with [CLS] and [SEP]; longer ones are cut"),
        # A tokenizer.json or vocab.txt of a WordPiece tokenizer, or their folder, or package:NAME/FOLDER of
        # an installed package.
        "vocabulary": optional(
            str, None, None, "of texts; None: the words that occur at least twice in the training examples"
        ),
    },
    "augment": {  # strengths in [0, 1]; 0 is the identity, bit for bit
        "gaussian_noise": strength("Gaussian noise"),
        "shift_crop": strength("shifts, cropped to the image"),
        "rotation": strength("rotation"),
        "random_erasing": strength("random erasing"),
        "contrast_brightness": strength("contrast and brightness"),
        "auto_augment": strength("AutoAugment, ImageNet's policy; of policies: share of images applied to"),
        "auto_augment_cifar10": strength("AutoAugment, CIFAR-10's policy"),
        "rand_augment": strength("RandAugment"),
        "trivial_augment": strength("TrivialAugmentWide"),
        "aug_mix": strength("AugMix"),
        "horizontal_flip": strength("probability of a flip, left to right"),
        "vertical_flip": strength("probability of a flip, upside down"),
        "random_resized_crop": strength("random resized crops"),
        "elastic": strength("elastic deformation"),
        "colour_jitter": strength("colour jitter"),
        "mixup": strength("alpha of the weights' distribution, Beta(alpha, alpha)"),
        "cutmix": strength("likewise; not together with mixup"),
        # Strengths are shares of a text's words (EDA, Wei & Zou 2019, 1901.11196; AEDA, Karimi et al. 2021,
        # 2108.13230).
        "text": {
            "synonym_replacement": strength("share of a text's words replaced by synonyms"),
            "random_insertion": strength("share of a text's words inserted"),
            "random_swap": strength("share of a text's words swapped"),
            "random_deletion": strength("share of a text's words deleted"),
            "punctuation_insertion": strength("share of a text's words before which a mark is inserted"),
            "proportion": Field(1.0, SHARE, "probability that a text is changed at all, anew in every epoch"),
            "synonyms": Field(
                "corpus",
                one_of("corpus", "wordnet"),
                "near words in the training texts, or WordNet's by nltk",
            ),
            "synonym_cosine": Field(0.5, SHARE, "corpus: words at least so alike are synonyms"),
        },
    },
    "synthetic": {
        "share": Field(0.0, SHARE, "add: synthetic / real, all real kept; replace: synthetic / total"),
        "mode": Field(
            "add", one_of("add", "replace"), "whether synthetic examples join or replace real ones"
        ),
        # Images: flow (matching, a network) | memoriser (flow matching's exact minimiser) | gaussian (one a
        # class) | repeat (real images again) | import (another generator's).
        # Texts: lm (language model, word by word) | infill (words of training texts put anew, by a masked
        # language model) | ngram (trigrams) | repeat, which write with the training split's words; import.
        "method": Field("flow", one_of(*dict.fromkeys(IMAGE_METHODS + TEXT_METHODS)), "the generator"),
        "images": optional(str, None, None, "import: folder:PATH or npz:PATH, as data.source has them"),
        "texts": optional(str, None, None, "import: a .csv, .tsv or .jsonl file with text and label"),
        "examples": optional(
            int, None, AT_LEAST_ONE, "in the stored set; None: as many as training examples"
        ),
        "cache": Field(
            "runs/cache", None, "stored sets, by hash of what made them; features of pre-trained models"
        ),
        "image_size": dimension(8, "side the generator works at; its images are then resized as the data is"),
        # Knobs of diversity.
        "guidance": Field(1.0, AT_LEAST_ZERO, "classifier-free guidance scale; 1: none"),
        "temperature": Field(
            1.0, AT_LEAST_ZERO, "of the noise that samples start from; texts: words' logits are divided by it"
        ),
        "top_p": Field(
            1.0, ABOVE_ZERO_TO_ONE, "lm, infill: total probability of the likeliest words drawn from; 1: all"
        ),
        "mask_share": Field(0.3, SHARE, "infill: share of a training text's words that are put anew"),
        "edit_start": Field(
            0.0, BELOW_ONE, "samples are edits of training images from this time on; 0: from noise"
        ),
        "distinct": optional(int, None, AT_LEAST_ONE, "different noises; None: one a sample"),
        # Filters; what they leave out is sampled anew.
        "least_confidence": Field(
            0.0, SHARE, "of a judge trained on the training split, in the sample's class"
        ),
        "least_distance": Field(
            0.0, AT_LEAST_ZERO, "to the nearest training image, in median distances of validation images"
        ),
        # The network of flow, its fit and its sampler. A transformer of lm and infill takes width, depth,
        # heads, dtype, total_steps, batch_size, learning_rate and ema.
        "network": Field("mlp", one_of("mlp", "unet", "dit"), "of flow"),
        "width": dimension(128, "of a layer; unet: channels of the first level; dit: of a token"),
        "depth": dimension(4, "blocks; unet: in each level"),
        "multipliers": Field((1, 2, 2), None, "unet: channels of each level, in widths"),
        "patch": dimension(2, "dit"),
        "heads": dimension(4, "dit, lm, infill"),
        "dtype": Field("float32", one_of("float32", "bfloat16"), "of the network's computation"),
        "time": Field("uniform", one_of("uniform", "logit_normal"), "distribution of training times"),
        "sampler": Field("euler", one_of("euler", "midpoint", "heun"), "solver of the flow's equation"),
        "total_steps": dimension(2000, "of the generator's training"),
        "batch_size": dimension(128, "of the generator's training"),
        "learning_rate": Field(2e-3, AT_LEAST_ZERO, "of the generator's training"),
        "ema": Field(0.999, BELOW_ONE, "decay of the average of weights that samples are made with"),
        "label_dropout": Field(0.1, SHARE, "share of examples trained without their class, for guidance"),
        "sampling_steps": dimension(30, "of the sampler"),
    },
    "model": {
        "name": Field("vit", one_of("vit", "resnet", "mlp", "bert"), "the architecture; bert: of texts"),
        "reinit": Field(
            r"head/.*", regex, "regex of parameters that may be missing or of another shape in init_from"
        ),
        # Inputs in [0, 1] enter the model as (x - mean) / std, the model's own in every arm.
        "mean": Field(0.5, per_channel, "of inputs: one number, or one a channel", kind=object),
        "std": Field(0.5, positive_per_channel, "of inputs: one number, or one a channel", kind=object),
        "vit": {
            "patch": dimension(4, "side of a patch in pixels"),
            "width": dimension(128, "of a token"),
            "depth": dimension(4, "blocks"),
            "heads": dimension(4, "of attention"),
            "mlp_width": dimension(512, "of a block's hidden layer"),
            "patch_bias": Field(True, None, "whether the embedding of patches has a bias"),
            "class_token": Field(False, None, "whether a class token stands before the patches"),
            "distillation_token": Field(False, None, "whether DeiT's second token stands after it"),
            "registers": Field(0, AT_LEAST_ZERO, "tokens without a position beside it"),
            "pre_norm": Field(False, None, "whether there is a norm before the first block too"),
            "layer_scale": optional(
                float, None, ABOVE_ZERO, "initial scale of residual branches by channel; None: none"
            ),
            "activation": Field(
                "gelu_tanh", one_of("gelu", "gelu_tanh", "quick_gelu", "swiglu"), "of the blocks"
            ),
            "epsilon": Field(1e-6, ABOVE_ZERO, "of the norms"),
            # probe: SigLIP's learned token, which attends to all others.
            "pool": Field(
                "mean",
                one_of("mean", "class_token", "class_and_mean", "class_and_distillation", "probe"),
                "what the head is given; class_and_distillation has two heads",
            ),
            "projection": optional(
                int, None, AT_LEAST_ONE, "width that features are projected to; None: they are not"
            ),
        },
        "resnet": {
            "kind": Field(
                "cifar", one_of("cifar", "imagenet", "clip"), "of depth 6 n + 2; 18, 34, 50, ...; 50 or 101"
            ),
            "depth": dimension(20, "layers"),
            "width": dimension(16, "channels of the first stage's 3x3 convolutions"),
            "shortcut": Field(
                "projection", one_of("projection", "pad"), "pad: no parameters, option A of He et al."
            ),
            "projection": dimension(1024, "clip: width of the output of attention pooling"),
        },
        "batch_norm": {
            "frozen": Field(False, None, "moving means are used in training too and stay as they are"),
            "separate": Field(False, None, "synthetic examples have their own; evaluation has the real ones"),
        },
        "mlp": {
            "width": dimension(256, "of a hidden layer"),
            "depth": dimension(2, "layers"),
            "widths": Field((), widths, "of each hidden layer, from the input on; (): depth layers of width"),
        },
        "bert": {
            "kind": Field(
                "bert", one_of("bert", "roberta", "distilbert"), "which of them; MiniLM and the like are bert"
            ),
            "width": dimension(128, "of a token"),
            "depth": dimension(2, "blocks"),
            "heads": dimension(2, "of attention"),
            "mlp_width": dimension(512, "of a block's hidden layer"),
            "positions": dimension(512, "most tokens of a text"),
            "pooling": Field(
                "cls", one_of("cls", "mean"), "first token, dense layer, tanh; or mean over the tokens"
            ),
        },
        # "letters" (shipped), a run directory, an Orbax checkpoint, or weights of another program
        # (safetensors, torch, npz, Keras, a folder of shards); data:PATH is below $RMTJAX_DATA,
        # package:NAME/PATH in an installed Python package.
        "init_from": optional(str, "letters", None, "where the weights come from; None: from scratch"),
        "init_scale": Field(
            1.0, ABOVE_ZERO, "initial parameters are multiplied by it; those of init_from are not"
        ),
        "head_seed": Field(
            0,
            AT_LEAST_ZERO,
            "0: the head's initial values are by seed; others: drawn anew, by seed and this",
        ),
        "lora": {  # low-rank factors beside kernels; they and the head alone are trained
            "rank": Field(0, AT_LEAST_ZERO, "of the factors; 0: none"),
            "alpha": Field(16.0, ABOVE_ZERO, "the factors' products are multiplied by alpha / rank"),
            "targets": Field(r".*/(query|value)/kernel", regex, "regex of the kernels that get factors"),
        },
        "init_names": optional(
            str,
            None,
            None,
            "a table of models.name_tables, for weights of another program; None: told by the names",
        ),
    },
    "regularization": {
        "dropout": Field(0.0, BELOW_ONE, "rate"),
        # Sites that the model lacks are passed over: attention in a ResNet other than CLIP's, attention and
        # residual in an MLP.
        "dropout_sites": Field(DROPOUT_SITES, some_of(DROPOUT_SITES), "where dropout acts"),
        "weight_decay": Field(0.0, AT_LEAST_ZERO, "decoupled or coupled, as optim.name says"),
        # No biases, no norms; of LoRA both factors, since their kernels are frozen.
        "decayed": Field(r".*kernel(_lora_[ab])?", regex, "regex of the parameters that decay"),
        "label_smoothing": Field(0.0, BELOW_ONE, "share of the label that is spread over all classes"),
    },
    "optim": {
        "name": Field(
            "adamw",
            one_of("adamw", "adam_l2", "sgd"),
            "decoupled decay; coupled L2; momentum and coupled L2",
        ),
        "learning_rate": Field(5e-4, AT_LEAST_ZERO, "peak"),
        "head_learning_rate": optional(float, None, AT_LEAST_ZERO, "None: learning_rate"),
        "head": Field(r"head/.*", regex, "regex of the head's parameters"),
        "schedule": Field("cosine", one_of("cosine", "linear", "constant"), "after the warm-up"),
        "warmup_steps": optional(int, 30, AT_LEAST_ZERO, "exactly one of the three"),
        "warmup_epochs": optional(float, None, AT_LEAST_ZERO, "exactly one of the three"),
        "warmup_examples": optional(int, None, AT_LEAST_ZERO, "exactly one of the three"),
        "clip_norm": optional(float, 1.0, ABOVE_ZERO, "global norm; None: no clipping"),
        # With LoRA the kernels and all else but the head stay anyway.
        "freeze": optional(
            str, None, regex, "regex of parameters that stay as they were; None: nothing is frozen"
        ),
        "momentum": Field(0.9, BELOW_ONE, "sgd"),
        "b1": Field(0.9, BELOW_ONE, "Adam's decay of the mean of gradients"),
        "b2": Field(0.999, BELOW_ONE, "Adam's decay of the mean of squared gradients"),
        "eps": Field(1e-8, ABOVE_ZERO, "Adam's"),
    },
    "train": {
        "total_steps": optional(int, 300, AT_LEAST_ONE, "exactly one of the three"),
        "total_epochs": optional(float, None, ABOVE_ZERO, "exactly one of the three"),
        "total_examples": optional(int, None, AT_LEAST_ONE, "exactly one of the three"),
        "batch_size": dimension(64, "global, over all devices and processes"),
        "accumulate": dimension(1, "micro-batches a step"),
        "evaluation_batch_size": dimension(256, "of validation and evaluation"),
        "dtype": Field(
            "float32", one_of("float32", "bfloat16"), "of the computation; parameters stay float32"
        ),
        "checkpoint_steps": dimension(100, "a checkpoint every so many steps"),
        "evaluation_steps": dimension(50, "validation every so many steps"),
        # (first, last), or how many, from the second step of a start on.
        "profile_steps": optional(object, None, steps, "steps traced by jax.profiler; None: none"),
        "mesh": {
            "data": Field(-1, MESH_AXIS, "devices that batches are split over; -1: all that are left"),
            "fsdp": Field(1, MESH_AXIS, "devices that parameters are split over; -1: all that are left"),
        },
        "sharding": Field(
            ((r".*", "fsdp"),), sharding_rules, "(regex, fsdp | replicate) pairs; the first match wins"
        ),
    },
    "spectra": {
        "enabled": Field(True, None, "whether spectra are computed"),
        "every_steps": optional(
            int, None, AT_LEAST_ONE, "a table of the weights so often; None: before and after alone"
        ),
        "conv": Field("slices", one_of("slices", "unfold"), "slices: one matrix per tap, pooled"),
        "metrics": Field("default", None, "default, all, or groups or names of metrics with commas between"),
        "products": Field(False, None, "rows of W_Q W_K^T and W_V W_O, a matrix a head, too"),
        "activation_examples": optional(
            int,
            None,
            AT_LEAST_ONE,
            "real training examples whose activations, by layer, have rows in the table too",
        ),
        "curvature_every_steps": optional(
            int, None, AT_LEAST_ONE, "trace and ends of the loss's Hessian and Gauss-Newton matrix so often"
        ),
        "curvature_examples": dimension(128, "real training examples, at most, whose loss that is"),
    },
    "evaluation": {
        "enabled": Field(True, None, "whether the model is evaluated on the sets below"),
        "shifts": Field(("corrupted", "printed_digits"), None, "corrupted, or sources with the same classes"),
        "ood": Field(("letters_unlike_digits",), None, "sources with other classes"),
        # CIFAR10_C are the 15 of CIFAR-10-C. Where all images of a set have one size, smaller than
        # data.image_size, they are corrupted in that size and then enlarged; others in data.image_size.
        "corruptions": Field(DIGITS_CORRUPTIONS, some_of(CORRUPTIONS), "of shifts=corrupted"),
        "corrupted_examples": optional(
            int, None, AT_LEAST_ONE, "test examples corrupted, stratified; None: all"
        ),
        "severities": Field((1, 2, 3, 4, 5), severities, "of each corruption"),
        "ood_examples": optional(int, None, AT_LEAST_ONE, "of each set of ood, at most; None: all"),
        "bins": dimension(15, "of the calibration error"),
        "bootstrap_samples": dimension(1000, "of the intervals"),
    },
    "diversity": {
        # Of sets (real, augmented, synthetic, test): images by their pixels, larger ones shrunk to 32 x 32,
        # texts by words, and both by features: of the letters model for images of the digits' size, else of
        # the model before training, if it is pre-trained or takes texts.
        "enabled": Field(True, None, "whether the diversity of what the model was fed is measured"),
        "examples": dimension(2000, "of each set, at most"),
        "neighbours": dimension(3, "k of coverage"),
    },
}

TEXT_STRENGTHS = (
    "synonym_replacement",
    "random_insertion",
    "random_swap",
    "random_deletion",
    "punctuation_insertion",
)


def base() -> ConfigDict:
    """The full tree with its defaults: fine-tuning the letters ViT on 400 handwritten digits."""
    return _tree(FIELDS).lock()


def _tree(fields: dict[str, Any]) -> ConfigDict:
    tree = ConfigDict()
    for name, field in fields.items():
        if isinstance(field, dict):
            tree[name] = _tree(field)
            continue
        if field.kind is not None:
            tree[name] = placeholder(field.kind)
        if field.kind is None or field.default is not None:
            tree[name] = field.default
    return tree


def each_field(fields: dict[str, Any] = FIELDS, prefix: str = "") -> Iterator[tuple[str, Field]]:
    """(dotted name, field) of every field, in the order of the tree."""
    for name, field in fields.items():
        if isinstance(field, dict):
            yield from each_field(field, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def about(name: str) -> str:
    """What the field of a dotted name means. Raises KeyError if there is none."""
    return dict(each_field())[name].about
