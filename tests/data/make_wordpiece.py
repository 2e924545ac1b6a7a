"""Writes tests/data/wordpiece.json: how transformers' BERT tokenizer cuts some texts, for test_data_texts.py.

    python tests/data/make_wordpiece.py FOLDER

FOLDER holds vocab.txt of an uncased BERT (all-MiniLM-L6-v2's, say); needs transformers.
"""

import json
import pathlib
import sys

from transformers import BertTokenizer

TEXTS = [
    "I am still waiting on my card?",
    "What can I do if my card still hasn't arrived after 2 weeks?",
    "My top-up was reverted, and I can't see why: please explain!",
    "Why was I charged £5.99 (or €7) at the ATM?",
    "Ünïcödé café, naïve coöperation; ÅNGSTRÖM İstanbul straße",
    "'twas o'clock rock 'n' roll ''quoted'' it’s the boys’ ’90s",
    "日本語 and 中文 together",
    "emoji 😀 and a snowman ☃ are unknown",
    "snake_case a-b--c... #hash @home 50% x^2 [MASKED] {curly}",
    "antidisestablishmentarianism hyperparameterisation",
    "a" * 120 + " is too long a word",
    "tab\tnewline\nand   blanks\u00a0nonbreaking \u200b zero",
    "ﬁve ½ Ⅷ x² CO₂",
    "",
    "...",
]


def main():
    tokenizer = BertTokenizer(str(pathlib.Path(sys.argv[1]) / "vocab.txt"))
    cases = [[text, tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])] for text in TEXTS]
    file = pathlib.Path(__file__).parent / "wordpiece.json"
    file.write_text(json.dumps(cases, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
