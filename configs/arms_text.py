"""Arms of EDA and AEDA on texts, at the strengths of Ba et al. (2024): shares of the words and of the texts.

    python -m rmtjax.study --config=configs/banking77_minilm.py --arms=configs/arms_text.py --seeds=0-4 \
        --out=runs/text

`none` is the baseline; `null` is augmented at strength 0, and must not differ from it.
"""

from ml_collections import ConfigDict

EDITS = {
    "sr": "synonym_replacement",
    "ri": "random_insertion",
    "rs": "random_swap",
    "rd": "random_deletion",
    "aeda": "punctuation_insertion",
}


def get_arms(config: ConfigDict) -> dict[str, list[str]]:
    arms = {"none": [], "null": ["augment.text.random_swap=0.0", "augment.text.proportion=0.5"]}
    for short, edit in EDITS.items():
        for strength in (0.3, 0.5):
            arms[f"{short}_{strength}"] = [
                f"augment.text.{edit}={strength}",
                f"augment.text.proportion={strength}",
            ]
    return arms
