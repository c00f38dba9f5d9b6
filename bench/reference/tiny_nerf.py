"""Tiny NeRF: the short script with which most people first train a radiance field.

The simplified NeRF that its authors published as a notebook: no viewing direction, no second pass
of samples, one whole picture a step. Only the background differs, on which pictures with an alpha
channel lie: white here, black there.

Reference:
    Mildenhall et al. 2020, NeRF, arXiv 2003.08934, and its ``tiny_nerf`` notebook.
"""

from __future__ import annotations

import torch
from torch import nn

from memonf.cameras.cameras import Cameras, Rays
from memonf.data import Scene
from memonf.typing import Tensor

WIDTH = 256
DEPTH = 8
#: After every so many layers the encoded position is put beside the units.
SKIP = 4
OCTAVES = 6
SAMPLES = 64
RATE = 5e-4
#: Points evaluated at once where no gradient is wanted.
CHUNK = 32 * 1024
#: The notebook's last sample reaches as far as this.
INFINITY = 1e10


def encode(positions: Tensor) -> Tensor:
    """Positions and the sine and cosine of each octave: (points, 3 + 6 * OCTAVES)."""
    parts = [positions]
    for octave in range(OCTAVES):
        parts += [torch.sin(2.0**octave * positions), torch.cos(2.0**octave * positions)]
    return torch.cat(parts, -1)


class Network(nn.Module):
    """Encoded position -> 8 layers of 256 units -> rgb and density before their activations."""

    def __init__(self) -> None:
        super().__init__()
        inputs = 3 + 6 * OCTAVES
        self.layers = nn.ModuleList()
        columns = inputs
        for index in range(DEPTH):
            self.layers.append(nn.Linear(columns, WIDTH))
            columns = WIDTH + inputs if self.skips_after(index) else WIDTH
        self.head = nn.Linear(columns, 4)
        for layer in (*self.layers, self.head):  # the notebook's library starts dense layers so
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    @staticmethod
    def skips_after(index: int) -> bool:
        """Whether the encoded position joins the outputs of this layer, the first being 0."""
        return index > 0 and index % SKIP == 0

    def forward(self, encoded: Tensor) -> Tensor:
        """(points, features) -> (points, 4)."""
        hidden = encoded
        for index, layer in enumerate(self.layers):
            hidden = torch.relu(layer(hidden))
            if self.skips_after(index):
                hidden = torch.cat([hidden, encoded], -1)
        return self.head(hidden)


class TinyNerf:
    """The script: a network, Adam, and one picture after the other, drawn at random."""

    def __init__(self, scene: Scene, seed: int) -> None:
        self.near, self.far = scene.near, scene.far
        self.background = scene.background_rgb
        self.views = scene.split("train")
        self.generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = Network()
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=RATE, eps=1e-7)

    def step(self) -> float:
        """Train on one whole picture, all of its samples at once."""
        view = int(torch.randint(len(self.views), (1,), generator=self.generator))
        target = self.views.picture(view, self.background)
        rgb = self.look(self.views.cameras.view_rays(view), jitter=True, chunk=None)
        loss = (rgb.reshape(target.shape) - target).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    @torch.no_grad()
    def render(self, cameras: Cameras, view: int) -> Tensor:
        """Picture of one camera."""
        rgb = self.look(cameras.view_rays(view), jitter=False, chunk=CHUNK)
        width, height = cameras.size(view)
        return rgb.reshape(height, width, 3)

    def look(self, rays: Rays, *, jitter: bool, chunk: int | None) -> Tensor:
        """Colours of rays: (rays, 3)."""
        distances = torch.linspace(self.near, self.far, SAMPLES).expand(len(rays), SAMPLES)
        if jitter:
            drawn = torch.rand(len(rays), SAMPLES, generator=self.generator)
            distances = distances + drawn * (self.far - self.near) / SAMPLES
        positions = rays.origins[:, None] + rays.directions[:, None] * distances[..., None]
        encoded = encode(positions.reshape(-1, 3))
        pieces = [encoded] if chunk is None else encoded.split(chunk)
        raw = torch.cat([self.network(piece) for piece in pieces]).reshape(len(rays), SAMPLES, 4)
        density, colour = raw[..., 3].relu(), raw[..., :3].sigmoid()
        last = torch.full((len(rays), 1), INFINITY)
        lengths = torch.cat([distances.diff(dim=-1), last], -1)
        alpha = 1 - torch.exp(-density * lengths)
        clear = torch.cumprod(1 - alpha + 1e-10, -1)
        transmittance = torch.cat([torch.ones_like(last), clear[:, :-1]], -1)
        weights = alpha * transmittance
        seen = (weights[..., None] * colour).sum(1)
        return seen + (1 - weights.sum(1))[:, None] * self.background


def build(scene: Scene, seed: int) -> TinyNerf:
    """The script before its first step."""
    return TinyNerf(scene, seed)
