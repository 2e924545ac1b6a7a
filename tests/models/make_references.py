"""Writes tests/models/references/*.npz: what the original implementations put out, for test_parity.py.

    RMTJAX_DATA=DIR python tests/models/make_references.py

Needs the `peers` extra. Models are tiny, with random weights of a seed; a file holds the weights under the original's
names (`weight/NAME`), an input (`input`), logits and what stages put out. `resnet20.npz` holds logits of the trained
ResNet-20 of RMTJAX_DATA on the first CIFAR-10 test images.
"""

import os
import pathlib

import numpy as np
import torch
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


class CifarResNet(nn.Module):
    """He et al. 2016, section 4.2, option A, with the names of akamaster/pytorch_resnet_cifar10."""

    def __init__(self, blocks, width=16, classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        inside = width
        for stage in range(3):
            new = width * 2**stage
            parts = []
            for i in range(blocks):
                parts.append(CifarBlock(inside, new, 2 if stage and not i else 1))
                inside = new
            setattr(self, f"layer{stage + 1}", nn.Sequential(*parts))
        self.linear = nn.Linear(inside, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def randomised(model, seed):
    """Weights of a seed, and batch statistics far from 0 and 1, so that each of them matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.randn(tensor.shape, generator=generator)
                if name.endswith("running_var"):
                    tensor.copy_(0.5 + noise.abs())
                elif tensor.ndim == 1 and name.endswith("weight"):
                    tensor.copy_(1 + 0.3 * noise)
                elif tensor.ndim == 1:
                    tensor.copy_(0.3 * noise)
                else:
                    fan = max(tensor[0].numel(), 1)
                    tensor.copy_(noise / fan**0.5)
    return model.eval()


def trained_cifar():
    """Logits of the trained ResNet-20 on the first test images."""
    import tensorflow_datasets as tfds

    root = pathlib.Path(os.environ["RMTJAX_DATA"])
    stored = torch.load(root / "resnet_cifar10/resnet20-12fca82f.th", weights_only=True, map_location="cpu")
    model = CifarResNet(3)
    model.load_state_dict({k.removeprefix("module."): v for k, v in stored["state_dict"].items()})
    images = tfds.load("cifar10", split=f"test[:{CIFAR_IMAGES}]", data_dir=root / "tfds", download=False)
    pixels = np.stack([example["image"] for example in images.as_numpy_iterator()]).astype(np.float32) / 255
    x = (pixels - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
    with torch.no_grad():
        logits = model.eval()(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    np.savez_compressed(FOLDER / "resnet20.npz", logits=logits)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    trained_cifar()
