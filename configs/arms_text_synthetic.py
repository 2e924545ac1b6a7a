"""Arms of synthetic texts, as Ba et al. (2024) mixed those of a large language model with real ones.

    python -m rmtjax.study --config=configs/banking77_minilm.py \
        --arms=configs/arms_text_synthetic.py --seeds=0-4 --out=runs/text_synthetic

`gen` puts synthetic texts in the place of real ones, `vf` those alone that a judge fitted to the training
texts takes for their class, and `add` adds them to all real ones. Here they are a small language model's,
fitted to the training texts; `infill` and `ngram` replace half of the texts by those of the other two
generators, and `repeat` by real ones once more.
"""

from ml_collections import ConfigDict

LEAST_CONFIDENCE = 0.2  # of 77 classes: a judge that is right says little more of short texts


def get_arms(config: ConfigDict) -> dict[str, list[str]]:
    arms: dict[str, list[str]] = {"none": []}
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        replace = ["synthetic.method=lm", "synthetic.mode=replace", f"synthetic.share={share}"]
        arms[f"gen_{share}"] = replace
        arms[f"vf_{share}"] = [*replace, f"synthetic.least_confidence={LEAST_CONFIDENCE}"]
    for share in (0.1, 0.3, 0.5, 0.7, 0.9, 1.0):
        arms[f"add_{share}"] = ["synthetic.method=lm", "synthetic.mode=add", f"synthetic.share={share}"]
    for method in ("infill", "ngram", "repeat"):
        arms[f"{method}_0.5"] = [
            f"synthetic.method={method}",
            "synthetic.mode=replace",
            "synthetic.share=0.5",
        ]
    return arms
