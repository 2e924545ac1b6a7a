"""CIFAR-10 from the image tower of CLIP ViT-B/32 with a new head, as the paper fine-tuned it (2410.14602).

    RMTJAX_DATA=DIR python -m rmtjax.train --config=configs/cifar10_clip_vitb32.py

Below DIR: `tfds/cifar10` (prepared by tensorflow_datasets) and `clip/ViT-B-32.safetensors`: the weights of
openai/clip-vit-base-patch32 on the Hugging Face hub (model.safetensors), or OpenAI's own ViT-B-32.pt, whose
state_dict is saved by `safetensors.torch.save_file(clip.load("ViT-B/32", "cpu")[0].state_dict(), FILE)`. For
a GPU: 45,000 images of 224 x 224, 5 epochs of batch 32. Dropout at every site:
--config.regularization.dropout=0.1; LoRA: --config.model.lora.rank=8. Test images are corrupted at 32 x 32,
as in CIFAR-10-C, and then enlarged.
"""

from ml_collections import ConfigDict

from rmtjax import config as config_lib


def get_config() -> ConfigDict:
    config = config_lib.base()
    config.data.source = "tfds:cifar10"
    config.data.image_size = 224
    config.data.train_examples = None
    config.data.validation_examples = 5000
    config.model.name = "vit"
    config.model.vit.update(patch=32, width=768, depth=12, heads=12, mlp_width=3072, patch_bias=False)
    config.model.vit.update(class_token=True, pool="class_token", pre_norm=True)
    config.model.vit.update(activation="quick_gelu", epsilon=1e-5, projection=512)
    config.model.mean = (0.48145466, 0.4578275, 0.40821073)  # CLIP's
    config.model.std = (0.26862954, 0.26130258, 0.27577711)
    config.model.init_from = "data:clip/ViT-B-32.safetensors"
    config.optim.name = "adam_l2"
    config.optim.learning_rate = 1e-5
    config.optim.schedule = "constant"
    config.optim.warmup_steps = 0
    config.optim.clip_norm = None
    config.train.batch_size = 32
    config.train.update(total_steps=None, total_epochs=5.0)
    config.train.update(checkpoint_steps=1000, evaluation_steps=1000)
    config.evaluation.shifts = ("corrupted",)
    config.evaluation.ood = ()
    config.evaluation.corruptions = config_lib.CIFAR10_C
    config.evaluation.corrupted_examples = 1000
    return config
