"""Distillation along the parents' own rays: one field learns what each parent saw, and only that.

Each parent renders the views of its own training cameras, which its file carries; a student that
starts from the best weight-space merge is trained on those pictures. A parent is thereby trusted
just where it has looked: what it invented behind the object never reaches the student. No image of
the data set is needed.
"""

from __future__ import annotations

import time
from typing import Annotated, Literal

import torch
from pydantic import Field as Limits

from ..cameras import Cameras
from ..data import Scene, Views
from ..errors import MergeError
from ..fields import Field, build_field
from ..rendering import Renderer
from ..symmetry import Params
from ..training import Trainer, TrainSettings
from .base import METHODS, SETTINGS, MergeMethod, MergeProblem, settings_dataclass
from .repair import ActivationMatchingRepair

__all__ = ["Distill", "pictures_of_parents"]


@METHODS.register("distill")
@settings_dataclass(**SETTINGS)
class Distill(MergeMethod):
    """Train the merge on pictures that the parents render at their own training cameras.

    Attributes:
        steps: Training steps of the student.
        views: Pictures rendered in all, shared among the parents by their coefficients.
        start: Where the student starts: ``merge`` (activation matching and REPAIR), ``parent`` (the
            first one) or ``scratch``.
    """

    steps: Annotated[int, Limits(ge=1)] = 400
    views: Annotated[int, Limits(ge=1)] = 100
    start: Literal["merge", "parent", "scratch"] = "merge"

    summary = "trained on pictures that the parents render at their own cameras"
    paper = "Hinton et al. 2015, Distilling the knowledge in a neural network, arXiv 1503.02531"
    needs_positions = True
    needs_cameras = True
    idempotent = False

    def combine(self, problem: MergeProblem) -> Params:
        """See `MergeMethod.combine`."""
        started = time.perf_counter()
        pictures = pictures_of_parents(problem, self.views)
        rendered = time.perf_counter()
        if not (pictures.images[..., 3] > 0).any():
            raise MergeError(
                "the parents render nothing at their training cameras: there is nothing to distil; "
                "look at them with `memonf render`"
            )
        settings = TrainSettings(steps=self.steps, seed=problem.seed)
        trainer = Trainer(self.student(problem), pictures, scene_of(problem), settings)
        with torch.enable_grad():
            while not trainer.done:
                progress = trainer.step()
                problem.on_progress(progress.fraction)
        problem.report["distill"] = {
            "pictures": len(pictures),
            "seconds_rendering": round(rendered - started, 3),
            "seconds_training": round(trainer.seconds, 3),
            "psnr_on_parents_pictures": round(progress.psnr, 2),
        }
        return dict(trainer.field.state_dict())

    def student(self, problem: MergeProblem) -> Field:
        """The field that the training starts from."""
        if self.start == "merge":
            return problem.field_with(ActivationMatchingRepair().combine(problem))
        if self.start == "parent":
            return problem.field_with(problem.params[0])
        first = problem.parents[0]
        fresh = build_field(first.name, first.config, first.aabb, seed=problem.seed)
        return fresh.to(first.aabb.device)


def pictures_of_parents(problem: MergeProblem, count: int) -> Views:
    """Pictures with alpha that each parent renders at its training cameras.

    Args:
        problem: Parents whose records hold cameras.
        count: Pictures in all, shared by the coefficients; a parent gives at most one a camera.

    Raises:
        MergeError: A parent's cameras are unknown.
    """
    poses, intrinsics, images = [], [], []
    width = height = 0
    for number, (parent, share) in enumerate(
        zip(problem.parents, problem.coefficients, strict=True), 1
    ):
        cameras = parent.record.cameras
        if cameras is None:
            raise MergeError(
                f"parent {number}: its training cameras are not in its file, and `distill` renders "
                "at them; try `activation_matching_repair`"
            )
        if number == 1:  # all pictures take the size of the first parent's
            width, height = cameras.width, cameras.height
        wanted = min(len(cameras), max(1, round(share * count)))
        picked = torch.linspace(0, len(cameras) - 1, wanted).round().long().tolist()
        chosen = cameras.resized(width, height)[picked]
        renderer = Renderer.of(parent)
        images += [rgba(renderer, chosen, view) for view in range(wanted)]
        poses.append(chosen.camera_to_world)
        intrinsics.append(chosen.intrinsics)
    joined = Cameras(torch.cat(poses), torch.cat(intrinsics), width, height)
    return Views(joined, torch.stack(images), tuple(map(str, range(len(images)))))


def rgba(renderer: Renderer, cameras: Cameras, view: int) -> torch.Tensor:
    """One view as 8 bit straight RGBA (height, width, 4): the background is taken out again."""
    seen = renderer.view(cameras, view)
    opacity = seen.opacity[..., None]
    own = (seen.rgb - (1 - opacity) * renderer.background) / opacity.clamp_min(1e-3)
    return (torch.cat([own, opacity], -1).clamp(0, 1) * 255).round().byte().cpu()


def scene_of(problem: MergeProblem) -> Scene:
    """What a trainer needs to know of the scene, from the parents' records."""
    records = [parent.record for parent in problem.parents]
    return Scene(
        name="the parents' pictures",
        loaders={},
        aabb=problem.parents[0].aabb,
        near=min(record.near for record in records),
        far=max(record.far for record in records),
        background=records[0].background,
    )
