"""Writes tests/models/references/*.npz: what the original implementations put out, for test_parity.py.

    RMTJAX_DATA=DIR python tests/models/make_references.py [NAME ...]

Needs the `peers` extra. Models are tiny; their weights and inputs are made by reference_cases.py, so that a
file holds only the names and shapes of the weights, the logits, and some of what stages put out.
`resnet20.npz` holds logits of the trained ResNet-20 of RMTJAX_DATA on the first CIFAR-10 test images.
"""

import json
import os
import pathlib
import sys
import tempfile

import numpy as np
import torch
from reference_cases import CASES, CLASSES, CLIP_VIT, VIT, random_input, random_weights, thinned
from torch import nn
from torch.nn import functional as F

FOLDER = pathlib.Path(__file__).parent / "references"
CIFAR_IMAGES = 200


class CifarBlock(nn.Module):
    def __init__(self, inside, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inside, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.new, self.stride = width - inside, stride

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.new or self.stride > 1:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.new // 2, self.new // 2))
        return F.relu(y + x)


class ClipBlock(nn.Module):
    """A bottleneck with means over the window of its stride in the place of strides (Radford et al. 2021)."""

    def __init__(self, inside, width, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inside, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.pool = nn.AvgPool2d(stride)
        self.downsample = None
        if stride > 1 or inside != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(inside, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.pool(F.relu(self.bn2(self.conv2(y))))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(self.pool(x))))


def add_layers(model, block, inside, width, blocks, expansion):
    for stage, count in enumerate(blocks):
        parts = []
        for i in range(count):
            parts.append(block(inside, width * 2**stage, 2 if stage and not i else 1))
            inside = expansion * width * 2**stage
        setattr(model, f"layer{stage + 1}", nn.Sequential(*parts))
    return inside


class CifarResNet(nn.Module):
    """He et al. 2016, section 4.2, option A, with the names of akamaster/pytorch_resnet_cifar10."""

    def __init__(self, blocks, width=16, classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.linear = nn.Linear(add_layers(self, CifarBlock, width, width, [blocks] * 3, 1), classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


class AttentionPool(nn.Module):
    def __init__(self, side, width, heads, out):
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.zeros(side**2 + 1, width))
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.c_proj = nn.Linear(width, out)
        self.heads = heads

    def forward(self, x):
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([x.mean(1, keepdim=True), x], 1) + self.positional_embedding
        q, k, v = (f(y).unflatten(-1, (self.heads, -1)).transpose(1, 2)
                   for f, y in ((self.q_proj, x[:, :1]), (self.k_proj, x), (self.v_proj, x)))  # fmt: skip
        return self.c_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)[:, 0])


class ClipResNet(nn.Module):
    """CLIP's modified ResNet with the names of OpenAI's files."""

    def __init__(self, size, blocks, width, out):
        super().__init__()
        half = width // 2
        self.conv1, self.bn1 = nn.Conv2d(3, half, 3, 2, 1, bias=False), nn.BatchNorm2d(half)
        self.conv2, self.bn2 = nn.Conv2d(half, half, 3, 1, 1, bias=False), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = nn.Conv2d(half, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        inside = add_layers(self, ClipBlock, width, width, blocks, 4)
        self.attnpool = AttentionPool(size // 32, inside, width // 2, out)

    def forward(self, x):
        for i in (1, 2, 3):
            x = F.relu(getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x)))
        x = F.avg_pool2d(x, 2)
        return self.attnpool(self.layer4(self.layer3(self.layer2(self.layer1(x)))))


class ClipViTBlock(nn.Module):
    def __init__(self, width, heads, mlp_width):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Module()
        self.mlp.c_fc, self.mlp.c_proj = nn.Linear(width, mlp_width), nn.Linear(mlp_width, width)

    def forward(self, x):
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        y = self.mlp.c_fc(self.ln_2(x))
        return x + self.mlp.c_proj(y * torch.sigmoid(1.702 * y))


class ClipViT(nn.Module):
    """CLIP's image transformer with the names of OpenAI's files."""

    def __init__(self, size, patch, width, depth, heads, mlp_width, projection):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros((size // patch) ** 2 + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = nn.Module()
        blocks = [ClipViTBlock(width, heads, mlp_width) for _ in range(depth)]
        self.transformer.resblocks = nn.Sequential(*blocks)
        self.proj = nn.Parameter(torch.zeros(width, projection))

    def forward(self, x):
        x = self.conv1(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], 1) + self.positional_embedding
        return self.ln_post(self.transformer.resblocks(self.ln_pre(x))[:, 0]) @ self.proj


def tower(image):
    model = nn.Module()
    model.visual = image
    model.forward = lambda x: model.visual(x)
    return model


def torch_model(name, size):
    """The original of a case at an input size, with any weights."""
    if name == "resnet_cifar":
        return CifarResNet(1, 4, CLASSES)
    if name in ("resnet18", "resnet50"):
        from torchvision.models import resnet

        block, blocks = (
            (resnet.BasicBlock, (2, 2, 2, 2)) if name == "resnet18" else (resnet.Bottleneck, (3, 4, 6, 3))
        )

        class Narrow(resnet.ResNet):
            """torchvision's own, 4 channels wide in the place of 64."""

            def __init__(self):
                super().__init__(block, blocks, CLASSES)
                self.inplanes, expansion = 4, block.expansion
                self.conv1, self.bn1 = nn.Conv2d(3, 4, 7, 2, 3, bias=False), nn.BatchNorm2d(4)
                for stage, count in enumerate(blocks):
                    layer = self._make_layer(block, 4 * 2**stage, count, stride=2 if stage else 1)
                    setattr(self, f"layer{stage + 1}", layer)
                self.fc = nn.Linear(32 * expansion, CLASSES)

        return Narrow()
    if name == "clip_rn":
        return tower(ClipResNet(size, (1, 1, 1, 1), 4, 8))
    vit = {key: VIT[key] for key in ("patch", "width", "depth", "heads", "mlp_width")}
    if name == "clip_vit":
        return tower(ClipViT(size, **vit, projection=CLIP_VIT["projection"]))
    if name in ("vit_timm", "dinov2_timm"):
        from timm.models.vision_transformer import VisionTransformer

        options = {"patch_size": 8, "num_classes": CLASSES, "embed_dim": 16, "depth": 2, "num_heads": 2,
                   "mlp_ratio": 2}  # fmt: skip
        if name == "vit_timm":
            return VisionTransformer(img_size=size, **options)
        return VisionTransformer(img_size=32, **options, init_values=1.0, reg_tokens=3, no_embed_class=True,
                                 dynamic_img_size=True)  # fmt: skip
    import transformers

    if name in ("dinov2", "dinov2_registers"):
        options = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2,
                   "image_size": 32, "patch_size": 8, "num_labels": CLASSES}  # fmt: skip
        if name == "dinov2":
            return transformers.Dinov2ForImageClassification(transformers.Dinov2Config(**options))
        return transformers.Dinov2WithRegistersForImageClassification(
            transformers.Dinov2WithRegistersConfig(**options, num_register_tokens=3, use_swiglu_ffn=True)
        )
    options = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
               "image_size": CASES[name].sizes[0], "patch_size": 8}  # fmt: skip
    if name == "vit_transformers":
        return transformers.ViTForImageClassification(transformers.ViTConfig(**options, num_labels=CLASSES))
    if name == "deit":
        return transformers.DeiTForImageClassificationWithTeacher(
            transformers.DeiTConfig(**options, num_labels=CLASSES)
        )
    if name == "siglip":
        text = {key: options[key] for key in list(options)[:4]} | {"vocab_size": 50}
        config = transformers.SiglipConfig(text_config=text, vision_config=options)
        return transformers.SiglipModel(config)
    config = transformers.CLIPVisionConfig(**options, projection_dim=CLIP_VIT["projection"])
    return transformers.CLIPVisionModelWithProjection(config)


def with_weights(model, seed):
    """The model with random weights, and their names and shapes in a file of it."""
    if getattr(model, "reg_token", None) is not None:
        return with_released_weights(model, seed)
    if not hasattr(model, "save_pretrained"):
        shapes = {name: tuple(x.shape) for name, x in model.state_dict().items()}
        weights = random_weights(shapes, seed)
        model.load_state_dict({name: torch.from_numpy(x) for name, x in weights.items()})
        return model.eval(), shapes
    from safetensors.numpy import load_file, save_file

    # Names in files of transformers are not those of its modules.
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        file = pathlib.Path(folder) / "model.safetensors"
        shapes = {name: x.shape for name, x in load_file(file).items()}
        save_file(random_weights(shapes, seed), file, {"format": "pt"})
        return type(model).from_pretrained(folder).eval(), shapes


def with_released_weights(model, seed):
    """timm's DINOv2 with weights named as DINOv2's authors do, with a position of the class token."""
    from timm.models.vision_transformer import checkpoint_filter_fn

    shapes = {name: tuple(x.shape) for name, x in model.state_dict().items()}
    _, patches, width = shapes["pos_embed"]
    shapes["register_tokens"] = shapes.pop("reg_token")
    shapes |= {"pos_embed": (1, patches + 1, width), "mask_token": (1, width)}
    weights = {name: torch.from_numpy(x) for name, x in random_weights(shapes, seed).items()}
    model.load_state_dict(checkpoint_filter_fn(weights, model))
    return model.eval(), shapes


def run(model, x, stages):
    """Logits, or features of a model without a head, and what its stages put out, channels last."""
    out, hooks = {}, []
    for name in stages:

        def keep(module, given, result, name=name):
            result = result[0] if isinstance(result, tuple) else result
            out[name] = (result.permute(0, 2, 3, 1) if result.ndim == 4 else result).numpy()

        hooks.append(model.get_submodule(name).register_forward_hook(keep))
    inputs = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        if hasattr(model, "save_pretrained"):
            always = type(model).__name__.startswith("Dinov2")  # without being asked to
            apply = getattr(model, "get_image_features", model)
            result = apply(inputs) if always else apply(inputs, interpolate_pos_encoding=True)
            result = next(result[key] for key in ("logits", "image_embeds", "pooler_output") if key in result)
        else:
            result = model(inputs)
    for hook in hooks:
        hook.remove()
    return result.numpy(), out


def outputs(name, seed=0):
    """`{size: (shapes of the weights, logits, {our stage: output})}` of a case by its original."""
    case, out = CASES[name], {}
    for size in case.sizes:
        if name in ("vit_jax", "big_vision"):
            from reference_flax import flax_outputs

            out[size] = flax_outputs(name, size, seed)
            continue
        model, shapes = with_weights(torch_model(name, size), seed)
        logits, found = run(model, random_input(size), case.stages.values())
        out[size] = shapes, logits, {ours: found[theirs] for ours, theirs in case.stages.items()}
    return out


def write(name):
    arrays = {}
    for size, (shapes, logits, stages) in outputs(name).items():
        arrays[f"{size}/shapes"] = np.asarray(json.dumps(shapes))
        arrays[f"{size}/logits"] = logits
        arrays |= {f"{size}/stage/{ours}": thinned(x) for ours, x in stages.items()}
    np.savez_compressed(FOLDER / f"{name}.npz", **arrays)


def write_trained_cifar():
    """Logits of the trained ResNet-20 on the first test images."""
    import tensorflow_datasets as tfds

    root = pathlib.Path(os.environ["RMTJAX_DATA"])
    stored = torch.load(root / "resnet_cifar10/resnet20-12fca82f.th", weights_only=True, map_location="cpu")
    model = CifarResNet(3)
    model.load_state_dict({k.removeprefix("module."): v for k, v in stored["state_dict"].items()})
    images = tfds.load("cifar10", split=f"test[:{CIFAR_IMAGES}]", data_dir=root / "tfds", download=False)
    pixels = np.stack([example["image"] for example in images.as_numpy_iterator()]).astype(np.float32) / 255
    x = (pixels - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
    np.savez_compressed(FOLDER / "resnet20.npz", logits=run(model.eval(), x, ())[0])


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:] or [*CASES, "resnet20"]:
        write_trained_cifar() if name == "resnet20" else write(name)
