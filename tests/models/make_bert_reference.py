"""Writes tests/models/references/{bert,roberta,distilbert}.npz: what transformers puts out, for test_bert.py.

    python tests/models/make_bert_reference.py [NAME ...]

Needs the `peers` extra. The models are tiny, with random weights of a seed. A file holds the weights under
the original's names (`weight/NAME`), tokens of two lengths with padding (`tokens_T`), and for each length
what every stage puts out. Tokens are ours, so 0 is padding; RoBERTa's padding is 1.
"""

import pathlib
import sys

import numpy as np
import torch
import transformers

FOLDER = pathlib.Path(__file__).parent / "references"
LENGTHS = (7, 12)
SIZES = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
         "intermediate_size": 32, "max_position_embeddings": 16, "num_labels": 5}  # fmt: skip


def original(name):
    if name == "bert":
        return transformers.BertForSequenceClassification(transformers.BertConfig(**SIZES))
    if name == "roberta":  # these sizes and epsilon are those of the files
        sizes = SIZES | {"max_position_embeddings": 18, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
        return transformers.RobertaForSequenceClassification(transformers.RobertaConfig(**sizes))
    config = transformers.DistilBertConfig(
        vocab_size=50, dim=16, n_layers=2, n_heads=4, hidden_dim=32, max_position_embeddings=16, num_labels=5
    )
    return transformers.DistilBertForSequenceClassification(config)


def outputs(model, tokens):
    """Of each stage, by the names of test_bert.py."""
    theirs, shown = torch.from_numpy(tokens).long(), torch.from_numpy(tokens != 0).long()
    if hasattr(model, "roberta"):
        theirs = torch.where(theirs < 2, 1 - theirs, theirs)
    with torch.no_grad():
        found = model(theirs, attention_mask=shown, output_hidden_states=True)
        last = found.hidden_states[-1]
        if hasattr(model, "bert"):
            pooled = model.bert.pooler(last)
        elif hasattr(model, "roberta"):
            pooled = torch.tanh(model.classifier.dense(last[:, 0]))
        else:
            pooled = torch.relu(model.pre_classifier(last[:, 0]))
    stages = {f"stage_{i}": hidden for i, hidden in enumerate(found.hidden_states)}  # 0: the embeddings
    return {name: x.numpy() for name, x in (stages | {"pooled": pooled, "logits": found.logits}).items()}


def write(name):
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model = original(name)
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
    np.savez_compressed(FOLDER / f"{name}.npz", **arrays)


if __name__ == "__main__":
    for name in sys.argv[1:] or ("bert", "roberta", "distilbert"):
        write(name)
