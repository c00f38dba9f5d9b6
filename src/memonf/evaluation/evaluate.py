"""Scores of a field on held-out views, each against its own picture; curves between parents."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

import torch

from ..cameras.cameras import Cameras
from ..data import Scene, Views
from ..data.background import colour_text
from ..errors import InputError
from ..rendering.volume_rendering import RadianceField, Renderer
from ..typing import Float, Tensor
from ..utils.devices import check_memory
from .lpips import Lpips
from .metrics import psnr, ssim

__all__ = ["Scores", "ViewScore", "barrier", "evaluate", "scored_views", "spread"]


#: Bytes of each ray of a picture: colour, opacity and depth, while strips are joined.
RAY_BYTES = 44

#: Of the cameras' extent: cameras that differ by less are one, rounded.
SAME_CAMERA = 1e-5


@dataclass(frozen=True)
class ViewScore:
    """Score of one view.

    Attributes:
        name: Name of the view.
        psnr: dB.
        ssim: In [-1, 1].
        lpips: Network (``alex``, ``vgg``) -> LPIPS, >= 0, lower is nearer.
    """

    name: str
    psnr: float
    ssim: float
    lpips: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Scores:
    """Scores of one field on the views of one group.

    Attributes:
        split: Which views: ``test``, ``val`` or ``train``.
        group: View group.
        psnr: Mean over views of each view's PSNR, dB.
        ssim: Mean over views.
        views: Score of each view.
        lpips: Network -> mean over views of LPIPS.
        protocol: In words, what was compared with what.
    """

    split: str
    group: str
    psnr: float
    ssim: float
    views: tuple[ViewScore, ...]
    lpips: Mapping[str, float] = field(default_factory=dict)
    protocol: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def evaluate(
    field: RadianceField,
    scene: Scene,
    *,
    split: str = "test",
    group: str = "all",
    most_views: int | None = None,
    only: Sequence[str] | None = None,
    supersample: int = 1,
    lpips: Sequence[str] = (),
    renderer: Renderer | None = None,
    on_picture: Callable[[str, Tensor], None] | None = None,
    on_view: Callable[[int, int], None] | None = None,
) -> Scores:
    """Render the views of a split's group and compare each with its own picture.

    Parents and merges go through this one path: same clamping, background and sampling.

    Args:
        field: Field to score.
        scene: Data set it is scored on.
        split: ``test`` (held out), ``val`` or ``train``.
        group: ``all``, ``front``, ``rear`` or ``sector K/N``.
        most_views: Score at most this many views, evenly spread; None for all.
        only: Of these, score only the views with these names; None for all.
        supersample: Rays along each side of a pixel, whose mean is its colour (box filter).
        lpips: Networks to take LPIPS with, ``alex`` or ``vgg``; see `memonf.evaluation.lpips`.
        renderer: The field made ready for pictures, where a caller has it.
        on_picture: Called with each view's name and picture, (height, width, 3) in [0, 1].
        on_view: Called with (views done, views) as work goes on.

    Raises:
        DataError: No such split, or no view in the group.
        InputError: Pictures without alpha stand on another background than the field's, or their
            masks leave no pixel to compare.
    """
    members = scene.views(split, group)
    counted = with_pixels(scene, members)
    views, without = spread(counted, most_views), len(members) - len(counted)
    check_background(field, scene, views)
    background = torch.tensor(field.record.background)
    if only is not None:
        views = views[[index for index, name in enumerate(views.names) if name in only]]
    check_supersampling(views.cameras, supersample, field.aabb.device)
    known = 0 if split == "train" else trained_on(field, views)
    networks = {name: Lpips.load(name) for name in lpips}
    if renderer is None:
        renderer = Renderer.of(field)
    scores = []
    for index, name in enumerate(views.names):
        picture = box_filtered(renderer, views.cameras[[index]], supersample).cpu()
        truth = views.picture(index, background)
        mask = views.mask(index)
        if on_picture is not None:
            on_picture(name, picture)
        likeness = {kind: network.distance(picture, truth, mask)
                    for kind, network in networks.items()}  # fmt: skip
        scores.append(
            ViewScore(name, psnr(picture, truth, mask), ssim(picture, truth, mask), likeness)
        )
        if on_view is not None:
            on_view(index + 1, len(views))
    return Scores(
        split,
        group,
        fmean(score.psnr for score in scores),
        fmean(score.ssim for score in scores),
        tuple(scores),
        {name: fmean(score.lpips[name] for score in scores) for name in networks},
        protocol_of(field, scene, views, split, group, supersample)
        + (f"; {known} of them have cameras of views that the field was trained on"
           if known else "")
        + (f"; {without} without a pixel that counts left out" if without else ""),
    )  # fmt: skip


def trained_on(field: RadianceField, views: Views) -> int:
    """How many of some views have the camera of a view that the field was trained on."""
    known = field.record.cameras
    if known is None or not len(known) or not len(views):
        return 0
    here, there = (
        cameras.camera_to_world.double().cpu().flatten(1) for cameras in (views.cameras, known)
    )
    extent = float((there - there.mean(0)).abs().max()) or 1.0
    nearest = torch.cdist(here, there, p=float("inf")).amin(1)
    return int((nearest <= SAME_CAMERA * extent).sum())


def check_background(field: RadianceField, scene: Scene, views: Views) -> None:
    """Refuse pictures that stand on another background than the field was made for.

    Pictures with alpha are put on the field's own, and have none of theirs.
    """
    own = field.record.background
    if own != scene.background and not views.translucent:
        raise InputError(
            f"the field's background is {colour_text(own)}, the pictures of {scene.name} have no "
            f"alpha channel and stand on {colour_text(scene.background)}: scores would compare "
            f"different pictures; to score them all the same, add `--background {colour_text(own)}`"
        )


def scored_views(scene: Scene, split: str, group: str, most: int | None) -> Views:
    """The views of a group that scores are taken on.

    Args:
        scene: The data set.
        split: ``test``, ``val`` or ``train``.
        group: View group.
        most: At most so many, evenly spread; None for all.

    Raises:
        DataError: No such split, or no view in the group.
        InputError: No view has a pixel that counts.
    """
    return spread(with_pixels(scene, scene.views(split, group)), most)


def with_pixels(scene: Scene, views: Views) -> Views:
    """The views whose masks leave a pixel to compare.

    Raises:
        InputError: There is none.
    """
    masks = [views.mask(view) for view in range(len(views))]
    kept = [view for view, mask in enumerate(masks) if mask is None or bool(mask.any())]
    if not kept and len(views):
        raise InputError(
            f"{scene.name}: the masks of all {len(views)} views leave no pixel to compare; black "
            "or label 0 does not count, `memonf data inspect` shows the share"
        )
    return views if len(kept) == len(views) else views[kept]


def protocol_of(
    field: RadianceField, scene: Scene, views: Views, split: str, group: str, supersample: int
) -> str:
    """What is compared with what, in words."""
    red, green, blue = field.record.background
    whose = "" if field.record.background == scene.background else (
        ", the field's own, behind the pictures' alpha")  # fmt: skip
    rays = "1 ray" if supersample == 1 else f"mean of {supersample}x{supersample} rays"
    counted = "all pixels" if views.masks is None else "pixels that the masks leave"
    sizes = sizes_in_words(views.cameras)
    return (
        f"{len(views)} {split} views of `{group}`, each against its own picture, "
        f"{sizes}, {rays} a pixel, {counted}; sRGB values "
        f"clamped to [0, 1], background ({red:g}, {green:g}, {blue:g}){whose}"
    )


def sizes_in_words(cameras: Cameras) -> str:
    """``800x600``, or the smallest and the largest where pictures differ in size."""
    sizes = sorted(cameras.distinct_sizes, key=math.prod)
    (width, height), (wide, high) = sizes[0], sizes[-1]
    one = f"{width}x{height}"
    return one if len(sizes) == 1 else f"{len(sizes)} sizes from {one} to {wide}x{high}"


def check_supersampling(cameras: Cameras, supersample: int, device: torch.device) -> None:
    """Refuse pictures that do not fit into memory with so many rays a pixel.

    Raises:
        InputError: Too many.
    """
    if supersample < 1:
        raise InputError(f"supersample: expected at least 1, received {supersample}")
    area = max(map(math.prod, cameras.distinct_sizes)) * supersample**2
    check_memory(RAY_BYTES * area, f"--supersample {supersample}", "ask for less of it", device)


def box_filtered(
    renderer: Renderer, camera: Cameras, supersample: int
) -> Float[Tensor, "height width 3"]:
    """Picture of one camera whose pixels are means of several rays."""
    width, height = camera.size(0)
    fine = camera.resized(width * supersample, height * supersample)
    picture = renderer.view(fine, 0).rgb
    return picture.reshape(height, supersample, width, supersample, 3).mean((1, 3))


def spread(views: Views, most: int | None) -> Views:
    """At most `most` views, evenly spread over the sequence."""
    if most is None or most >= len(views):
        return views
    if most < 1:
        raise InputError(f"views: expected at least 1, received {most}")
    return views[torch.linspace(0, len(views) - 1, most).round().long()]


def barrier(coefficients: Sequence[float], values: Sequence[float]) -> float:
    """Largest drop of a curve below the straight line between its ends, >= 0.

    Args:
        coefficients: In [0, 1], ascending, from 0 to 1.
        values: Score at each coefficient, higher is better (dB).

    Reference:
        Frankle et al. 2020, arXiv 1912.05671, for losses; here for scores.
    """
    if len(coefficients) != len(values) or len(values) < 2:
        raise InputError("barrier: expected two or more coefficients and as many values")
    place: Float[Tensor, " points"] = torch.tensor(coefficients, dtype=torch.float64)
    curve = torch.tensor(values, dtype=torch.float64)
    line = curve[0] + (curve[-1] - curve[0]) * (place - place[0]) / (place[-1] - place[0])
    return max(0.0, float((line - curve).max()))
