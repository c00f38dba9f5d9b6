"""The usual script: what is mostly written when a small field is to be trained in plain PyTorch.

A small network, random pixels of all pictures, samples spread evenly over each ray whether anything
is there or not, Adam with a rate that decays.

Reference:
    Mildenhall et al. 2020, NeRF, arXiv 2003.08934, sections 4 and 5.3, without the second pass.
"""

from __future__ import annotations

import torch
from torch import nn

from memonf.cameras.cameras import Cameras, Rays
from memonf.data import Scene, composite_on
from memonf.typing import Tensor

WIDTH = 128
DEPTH = 3
OCTAVES = 6
RAYS = 1024
SAMPLES = 64
RATE = 5e-4
#: The rate falls to a tenth in so many steps.
DECAY_STEPS = 250_000
#: Rays rendered at once where no gradient is wanted; pictures only score it, off the clock.
CHUNK = 64


def encode(positions: Tensor) -> Tensor:
    """Positions and the sine and cosine of each octave: (..., 3 + 6 * OCTAVES)."""
    parts = [positions]
    for octave in range(OCTAVES):
        parts += [torch.sin(2.0**octave * positions), torch.cos(2.0**octave * positions)]
    return torch.cat(parts, -1)


def network() -> nn.Sequential:
    """Encoded position -> 3 layers of 128 units -> rgb and density before their activations."""
    layers: list[nn.Module] = []
    columns = 3 + 6 * OCTAVES
    for _ in range(DEPTH):
        layers += [nn.Linear(columns, WIDTH), nn.ReLU()]
        columns = WIDTH
    return nn.Sequential(*layers, nn.Linear(columns, 4))


class UsualScript:
    """A network, Adam, and a batch of random rays a step."""

    def __init__(self, scene: Scene, seed: int) -> None:
        views = scene.split("train")
        self.near, self.far = scene.near, scene.far
        self.background = scene.background_rgb
        self.generator = torch.Generator().manual_seed(seed)
        rays = [views.cameras.view_rays(view) for view in range(len(views))]
        self.rays = Rays(
            torch.cat([r.origins for r in rays]), torch.cat([r.directions for r in rays])
        )
        self.pixels = composite_on(views.images, self.background).reshape(-1, 3)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = network()
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=RATE)
        self.schedule = torch.optim.lr_scheduler.ExponentialLR(
            self.optimizer, 0.1 ** (1 / DECAY_STEPS)
        )

    def step(self) -> float:
        """Train on random rays of all pictures."""
        drawn = torch.randint(len(self.pixels), (RAYS,), generator=self.generator)
        rgb = self.look(self.rays[drawn], jitter=True)
        loss = (rgb - self.pixels[drawn]).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return float(loss.detach())

    @torch.no_grad()
    def render(self, cameras: Cameras, view: int) -> Tensor:
        """Picture of one camera."""
        rays = cameras.view_rays(view)
        parts = [
            self.look(rays[start : start + CHUNK], jitter=False)
            for start in range(0, len(rays), CHUNK)
        ]
        width, height = cameras.size(view)
        return torch.cat(parts).reshape(height, width, 3)

    def look(self, rays: Rays, *, jitter: bool) -> Tensor:
        """Colours of rays: (rays, 3); one sample in each of 64 equal stretches."""
        edges = torch.linspace(self.near, self.far, SAMPLES + 1)
        inside = torch.full((len(rays), SAMPLES), 0.5)
        if jitter:
            inside = torch.rand(len(rays), SAMPLES, generator=self.generator)
        distances = edges[:-1] + (edges[1:] - edges[:-1]) * inside
        positions = rays.origins[:, None] + rays.directions[:, None] * distances[..., None]
        raw = self.network(encode(positions))
        density, colour = raw[..., 3].relu(), raw[..., :3].sigmoid()
        lengths = torch.cat([distances.diff(dim=-1), edges[-1] - distances[:, -1:]], -1)
        alpha = 1 - torch.exp(-density * lengths)
        clear = torch.cumprod(1 - alpha + 1e-10, -1)
        transmittance = torch.cat([torch.ones_like(clear[:, :1]), clear[:, :-1]], -1)
        weights = alpha * transmittance
        seen = (weights[..., None] * colour).sum(1)
        return seen + (1 - weights.sum(1))[:, None] * self.background


def build(scene: Scene, seed: int) -> UsualScript:
    """The script before its first step."""
    return UsualScript(scene, seed)
