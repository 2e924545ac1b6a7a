"""Stanford Cars from the image tower of CLIP RN50 with a new head, as the paper fine-tuned it (2410.14602).

    RMTJAX_DATA=DIR python -m rmtjax.train --config=configs/cars_clip_rn50.py

Below DIR: `tfds/cars196` (prepared by tensorflow_datasets) and `clip/RN50.safetensors`: OpenAI's RN50.pt,
whose state_dict is saved by `safetensors.torch.save_file(clip.load("RN50", "cpu")[0].state_dict(), FILE)`.
For a GPU: 8,144 images, 5 epochs of batch 32. The paper's model trained with the statistics of its batches;
--config.model.batch_norm.frozen=True keeps CLIP's.
"""

from ml_collections import ConfigDict

from rmtjax import config as config_lib


def get_config() -> ConfigDict:
    config = config_lib.base()
    config.data.source = "tfds:cars196"
    config.data.image_size = 224
    config.data.train_examples = None
    config.data.validation_examples = 800
    config.model.name = "resnet"
    config.model.resnet.update(kind="clip", depth=50, width=64, projection=1024)
    config.model.mean = (0.48145466, 0.4578275, 0.40821073)  # CLIP's
    config.model.std = (0.26862954, 0.26130258, 0.27577711)
    config.model.init_from = "data:clip/RN50.safetensors"
    config.optim.name = "adam_l2"
    config.optim.learning_rate = 1e-5
    config.optim.schedule = "constant"
    config.optim.warmup_steps = 0
    config.optim.clip_norm = None
    config.train.batch_size = 32
    config.train.update(total_steps=None, total_epochs=5.0)
    config.train.update(checkpoint_steps=250, evaluation_steps=250)
    config.evaluation.shifts = ("corrupted",)
    config.evaluation.ood = ()
    # At 224 x 224, with constants made for 32 x 32: blurs and shifts are milder than ImageNet-C's.
    config.evaluation.corruptions = config_lib.CIFAR10_C
    config.evaluation.corrupted_examples = 1000
    return config
