"""Which reading of third-party params renders its training views: tried, not guessed.

Nothing in a checkpoint says in which order its encoding stands, what it is multiplied by, or what
follows its layers; a wrong reading gives a field of noise. Some rays of a few training views are
rendered for one reading after another, and the one that makes their pixels is taken.

Symbols: PSNR of some hundred pixels in dB; *baseline*, the PSNR of one colour everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import torch

from ...cameras.cameras import Rays
from ...data import Views, composite_on
from ...errors import DataError
from ...fields.classic_nerf import ClassicNerf
from ...rendering.ray_marching import intersect_box
from ...rendering.volume_rendering import compositing_weights
from ...typing import Float, Tensor
from .layer_names import DENSITY_ACTIVATIONS, LayerNames
from .nets import Net
from .orders import EncodingOrder, factor_words, other_orders

__all__ = ["Look", "Reading", "Verdict", "try_readings"]

#: Views that are looked at; rays, and samples along each, of a first look and of a closer one.
VIEWS, FEW_RAYS, FEW_SAMPLES, RAYS, SAMPLES = 2, 128, 64, 640, 96
#: Points that a network is asked at once.
CHUNK = 1 << 16
#: dB above one colour everywhere that a reading has to be to fit; so far above the baseline that
#: the order of positions is certainly right; by how much another reading, and another background,
#: has to be better.
FITS, CERTAIN, BETTER, FAR_BETTER = 4.0, 9.0, 1.0, 3.0
#: Departures from what was said that are looked for one after the other.
MOST_DEPARTURES = 4
#: Weights below this are not seen: colours are not asked for.
UNSEEN = 1e-3
FACTORS = (1.0, math.pi, 2 * math.pi)
BACKGROUNDS = ((1.0, 1.0, 1.0), (0.0, 0.0, 0.0))

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Look:
    """Some rays of training views, and the pixels that they end at.

    Attributes:
        rays: In random order: the first of them are a fair choice.
        pixels: (rays, 3 or 4), as the pictures are stored, 8 bit.
        aabb: (2, 3), box of the field, scene units.
        near: Nearest distance, scene units.
        far: Farthest distance.
        samples: Along each ray.
    """

    rays: Rays
    pixels: Tensor
    aabb: Float[Tensor, "2 3"]
    near: float
    far: float
    samples: int = SAMPLES

    @classmethod
    def at(cls, views: Views, aabb: Tensor, near: float, far: float) -> Look:
        """Choose rays of a few views, spread over all of them; masked pixels are left out.

        Raises:
            DataError: The masks leave no pixel.
        """
        generator = torch.Generator().manual_seed(0)
        chosen = sorted({len(views) * part // VIEWS for part in range(VIEWS)})
        origins, directions, pixels = [], [], []
        for view in chosen:
            image = views.image(view)
            mask = views.mask(view)
            counted = torch.arange(image.shape[0] * image.shape[1]) if mask is None else (
                mask.flatten().nonzero()[:, 0].cpu())  # fmt: skip
            order = torch.randperm(len(counted), generator=generator)[: RAYS // len(chosen)]
            index = counted[order]
            rays = views.cameras.rays(
                torch.full_like(index, view), index // image.shape[1], index % image.shape[1]
            )
            origins.append(rays.origins.cpu())
            directions.append(rays.directions.cpu())
            pixels.append(image.flatten(0, 1)[index].cpu())
        if not sum(map(len, origins)):
            raise DataError("the masks leave no pixel of the training views to look at")
        mixed = torch.randperm(sum(map(len, origins)), generator=generator)
        rays = Rays(torch.cat(origins)[mixed], torch.cat(directions)[mixed])
        return cls(rays, torch.cat(pixels)[mixed], aabb.cpu(), near, far)

    def short(self) -> Look:
        """A quicker one: its first rays, fewer samples."""
        few = slice(0, FEW_RAYS)
        return replace(
            self,
            rays=self.rays[few],
            pixels=self.pixels[few],
            samples=min(FEW_SAMPLES, self.samples),
        )

    def truth(self, background: Colour) -> Float[Tensor, "rays 3"]:
        """The pixels on a background."""
        return composite_on(self.pixels, torch.tensor(background))

    def baseline(self, background: Colour) -> float:
        """PSNR of one colour everywhere, the mean of the pixels."""
        truth = self.truth(background)
        return decibels(truth.mean(0), truth)

    @torch.no_grad()
    def light(self, network: ClassicNerf) -> tuple[Tensor, Tensor]:
        """Colour (rays, 3) and opacity (rays,) of a field along the rays."""
        starts, ends = intersect_box(self.rays, self.aabb, self.near, self.far)
        lengths = (ends - starts).clamp_min(0)[:, None] / self.samples
        distances = starts[:, None] + (torch.arange(self.samples) + 0.5) * lengths
        positions = (
            self.rays.origins[:, None] + distances[..., None] * self.rays.directions[:, None]
        )
        density = torch.cat([network.density(part) for part in positions.view(-1, 3).split(CHUNK)])
        weights = compositing_weights(
            density.view(-1, self.samples).nan_to_num(0, 1e6, 0), lengths.expand(-1, self.samples)
        )
        seen = weights > UNSEEN
        rgb = torch.zeros(*weights.shape, 3)
        if seen.any():
            directions = self.rays.directions[:, None].expand_as(positions)
            rgb[seen] = network(positions[seen], directions[seen]).rgb.nan_to_num(0, 1, 0)
        return (weights[..., None] * rgb).sum(1), weights.sum(1)

    def psnr(self, network: ClassicNerf, background: Colour) -> float:
        """PSNR of a field on a background, dB."""
        rgb, opacity = self.light(network)
        shade = torch.tensor(background) * (1 - opacity)[:, None]
        return decibels(rgb + shade, self.truth(background))


def decibels(picture: Tensor, truth: Tensor) -> float:
    """PSNR of all values together."""
    return -10 * math.log10(max(1e-10, float((picture.clamp(0, 1) - truth).square().mean())))


@dataclass(frozen=True)
class Reading:
    """One way to read the params, and how well it makes the pixels.

    Attributes:
        words: In which it departs from what was said, as a YAML file says it.
        names: The layers read so.
        psnr: dB.
    """

    words: str
    names: LayerNames
    psnr: float


@dataclass(frozen=True)
class Verdict:
    """What the trial found.

    Attributes:
        net: The net, read as it fits best; as it was said, if nothing fits.
        background: Behind it.
        psnr: Of that reading, dB.
        baseline: PSNR of one colour everywhere.
        tried: All readings, the best first; some were looked at by fewer rays.
        fits: Whether the reading makes the pixels.
        changed: How it departs from what was said; empty if it does not.
        rays: How many were looked at.
    """

    net: Net
    background: Colour
    psnr: float
    baseline: float
    tried: tuple[Reading, ...]
    fits: bool
    changed: str
    rays: int


@dataclass
class Trial:
    """Looks at readings; remembers what was tried.

    Args:
        net: The params, and the layers as they were said.
        look: Rays and pixels.
        background: Behind the field.
        on_reading: Called with each reading that was tried.
    """

    net: Net
    look: Look
    background: Colour
    on_reading: Callable[[Reading], None] | None = None
    tried: dict[str, Reading] = field(default_factory=dict)

    def reading(self, words: str, names: LayerNames, look: Look) -> Reading:
        """Try one."""
        network = replace(self.net, names=names).field(look.aabb)
        reading = Reading(words, names, look.psnr(network, self.background))
        self.tried[words] = reading
        if self.on_reading is not None:
            self.on_reading(reading)
        return reading

    def best(self, current: Reading, others: Iterator[tuple[str, LayerNames]]) -> Reading:
        """The best of some readings by a few rays, looked at again by all; or the current one."""
        few = self.look.short()
        now = few.psnr(replace(self.net, names=current.names).field(few.aabb), self.background)
        found = [self.reading(words, names, few) for words, names in others]
        ahead = sorted((r for r in found if r.psnr > now + BETTER), key=lambda r: -r.psnr)[:3]
        closer = [self.reading(reading.words, reading.names, self.look) for reading in ahead]
        best = max(closer, key=lambda reading: reading.psnr, default=current)
        return best if best.psnr > current.psnr + BETTER else current

    @property
    def baseline(self) -> float:
        """PSNR of one colour everywhere, dB."""
        return self.look.baseline(self.background)

    def on_another_background(self, reading: Reading) -> Reading:
        """The same reading on white or black, if that makes the pixels and is far better."""
        network = replace(self.net, names=reading.names).field(self.look.aabb)
        psnr = {shade: self.look.psnr(network, shade) for shade in BACKGROUNDS}
        best = max(psnr, key=lambda shade: psnr[shade])
        fits = psnr[best] >= self.look.baseline(best) + FITS
        if not fits or psnr[best] < reading.psnr + FAR_BETTER:
            return reading
        self.background = best
        self.tried[reading.words] = replace(reading, psnr=psnr[best])
        return self.tried[reading.words]

    def improved(self, current: Reading, config: object) -> Reading:
        """Departures one after the other, each the best of all that there are, while they help."""
        for _ in range(MOST_DEPARTURES):
            others = [*departures_of(current, config), *directions_of(current, config)]
            if current.psnr < self.baseline + CERTAIN:
                others += [*orders_of(current, config), *factors_of(current)]
            best = self.best(current, iter(others))
            if best is current:
                break
            current = best
        return current


def joined(words: str, more: str) -> str:
    """Departures one after the other."""
    return more if words in ("", AS_SAID) else f"{words}, {more}"


AS_SAID = "as said"


def orders_of(reading: Reading, config: object) -> Iterator[tuple[str, LayerNames]]:
    """Other orders of the encodings of positions and directions alike."""
    include = bool(getattr(config, "include_input", True))
    for order in other_orders(reading.names.positions, include):
        names = replace(reading.names, positions=order)
        if reading.names.directions is not None:
            again = replace(
                reading.names.directions, loops=order.loops, cosines_first=order.cosines_first,
                input=order.place,
            )  # fmt: skip
            names = replace(names, directions=again)
        yield joined(reading.words, order.words()), names


def factors_of(reading: Reading) -> Iterator[tuple[str, LayerNames]]:
    """Other factors of the angles, and frequencies that do not double."""
    for factor in FACTORS:
        if factor != reading.names.positions.factor:
            names = replace(
                reading.names, positions=replace(reading.names.positions, factor=factor)
            )
            if names.directions is not None:
                names = replace(names, directions=replace(names.directions, factor=factor))
            yield joined(reading.words, f"factor: {factor_words(factor)}"), names
    other = not reading.names.octave_steps
    yield (
        joined(reading.words, f"octave_steps: {str(other).lower()}"),
        replace(reading.names, octave_steps=other),
    )


def trunk_departures_of(reading: Reading, config: object) -> Iterator[tuple[str, LayerNames]]:
    """Another activation of the first layer, and another way to join skips."""
    yield switched(reading, "first_activation")
    if getattr(config, "skips", ()):
        yield switched(reading, "hidden_first")


def switched(reading: Reading, switch: str) -> tuple[str, LayerNames]:
    """A departure that is there or not."""
    value = not getattr(reading.names, switch)
    words = joined(reading.words, f"{switch}: {str(value).lower()}")
    changed: dict[str, Any] = {switch: value}
    return words, replace(reading.names, **changed)


def departures_of(reading: Reading, config: object) -> Iterator[tuple[str, LayerNames]]:
    """Other activations, and other ways to join."""
    yield from trunk_departures_of(reading, config)
    if getattr(config, "view_width", 0):
        for switch in ("feature_activation", "density_from_feature", "direction_first"):
            yield switched(reading, switch)
    for activation in DENSITY_ACTIVATIONS:
        if activation != reading.names.density_activation:
            words = joined(reading.words, f"density_activation: {activation}")
            yield words, replace(reading.names, density_activation=activation)
    both = reading.names.both
    if both and not getattr(config, "view_width", 0):
        words = joined(reading.words, f"density: {both}[0], colour: {both}[1:4]")
        yield words, replace(reading.names, both="", density=f"{both}[0]", colour=f"{both}[1:4]")


def directions_of(reading: Reading, config: object) -> Iterator[tuple[str, LayerNames]]:
    """Other orders, factors and signs of the encoding of directions alone."""
    if not getattr(config, "view_width", 0):
        return
    order = reading.names.direction_order
    include = bool(getattr(config, "include_direction", True))
    others: list[EncodingOrder] = other_orders(order, include)
    others += [replace(order, negated=not order.negated)]
    others += [replace(order, factor=factor) for factor in FACTORS if factor != order.factor]
    for other in others:
        said = other.words("direction_")
        yield joined(reading.words, said), replace(reading.names, directions=other)


def try_readings(
    net: Net,
    look: Look,
    background: Colour,
    *,
    other_backgrounds: bool = True,
    on_reading: Callable[[Reading], None] | None = None,
) -> Verdict:
    """Find the reading of a net's params that makes its training views.

    What was said is kept unless another reading makes the pixels, and clearly better.

    Args:
        net: The params, and the layers as they were said.
        look: Rays of training views.
        background: Behind the field, as was said.
        other_backgrounds: Whether white and black may be tried.
        on_reading: Called with each reading that was tried.

    Raises:
        FieldFileError: The params cannot be taken over; see `Net.field`.
    """
    trial = Trial(net, look, background, on_reading)
    config = net.field(look.aabb).config
    said = current = trial.reading(AS_SAID, net.names, look)
    if other_backgrounds:
        current = trial.on_another_background(current)
    current = trial.improved(current, config)
    if current.psnr < trial.baseline + FITS:  # no single departure does: two at once
        pairs = chain.from_iterable(
            orders_of(Reading(words, names, 0.0), config)
            for words, names in (*factors_of(said), *trunk_departures_of(said, config))
        )
        current = trial.improved(trial.best(current, pairs), config)
    if other_backgrounds:
        current = trial.on_another_background(current)
    baseline, shade = trial.baseline, trial.background
    fits = current.psnr >= baseline + FITS
    if not fits:
        current, shade, baseline = said, background, look.baseline(background)
    trial.tried[current.words] = current
    return Verdict(
        replace(net, names=current.names), shade, current.psnr, baseline,
        tuple(sorted(trial.tried.values(), key=lambda reading: -reading.psnr)), fits,
        "" if current.words == AS_SAID else current.words, len(look.rays),
    )  # fmt: skip
