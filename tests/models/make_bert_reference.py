"""Writes tests/models/references/bert.npz: what transformers' BERT puts out, for test_bert.py.

    python tests/models/make_bert_reference.py

Needs the `peers` extra. The model is tiny, with random weights of a seed. The file holds the weights under
the original's names (`weight/NAME`), tokens of two lengths with padding (`tokens_T`), and for each length
what every stage puts out.
"""

import pathlib

import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification

FILE = pathlib.Path(__file__).parent / "references" / "bert.npz"
LENGTHS = (7, 12)


def outputs(model, tokens):
    """Of each stage, by the names of test_bert.py."""
    with torch.no_grad():
        found = model(
            torch.from_numpy(tokens).long(),
            attention_mask=torch.from_numpy(tokens != 0).long(),
            output_hidden_states=True,
        )
        pooled = model.bert.pooler(found.hidden_states[-1])
    stages = {f"stage_{i}": hidden for i, hidden in enumerate(found.hidden_states)}  # 0: the embeddings
    return {name: x.numpy() for name, x in (stages | {"pooled": pooled, "logits": found.logits}).items()}


def main():
    generator = torch.Generator().manual_seed(0)
    model = BertForSequenceClassification(
        BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=4,
                   intermediate_size=32,
                   max_position_embeddings=16, num_labels=5)
    )  # fmt: skip
    with torch.no_grad():
        for tensor in model.parameters():
            scale = 0.3 if tensor.ndim == 1 else tensor.shape[-1] ** -0.5
            tensor.add_(scale * torch.randn(tensor.shape, generator=generator))
    model.eval()
    arrays = {f"weight/{name}": x.numpy() for name, x in model.state_dict().items()}
    rng = np.random.default_rng(0)
    for length in LENGTHS:
        tokens = rng.integers(1, 50, (3, length)).astype(np.int32)
        tokens[1, length // 2 :] = 0
        tokens[2, -1] = 0
        arrays[f"tokens_{length}"] = tokens
        arrays |= {f"{name}_{length}": x for name, x in outputs(model, tokens).items()}
    np.savez_compressed(FILE, **arrays)


if __name__ == "__main__":
    main()
