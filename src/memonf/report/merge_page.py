"""What the page of a single merge shows: no image is at hand, the parents are all the evidence."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .._version import __version__
from ..cameras.cameras import Cameras
from ..errors import InputError, MergeError
from ..evaluation.image_free import Evidence
from ..evaluation.metrics import psnr
from ..fields import Field, known
from ..merging import alignment_similarities
from ..rendering.baking import preview
from ..rendering.volume_rendering import Renderer
from ..typing import Tensor
from ..visualization.knowledge import draw_knowledge
from ..visualization.turntables import field_path
from ..visualization.video import to_bytes
from .addresses import COLUMNS, file_address, picture_address, sheet_address
from .experiment_page import KNOWLEDGE_TEXT, LAYERS_NOTE, layers_of, settings_of
from .page import Film, Layer, Map, Page, Shown, Standpoint, widths

__all__ = ["MergeStory", "merge_page"]

#: Frames of each turntable, and the side of all pictures in pixels.
FRAMES, SIZE = 60, 128
#: Cameras of each parent from which pictures are compared.
STANDPOINTS = 2
MERGED = "merged"


@dataclass(frozen=True)
class MergeStory:
    """A merge and what it was made of.

    Attributes:
        merged: The merged field.
        parents: Its parents, in the order given.
        names: What to call each of them, for example its file.
        report: Of the merge, see `memonf.merging.MergeResult`.
        evidence: What the parents say of it; None if they were not asked.
        command: The command line that makes it again.
        seconds: How long each parent was trained, None where that is unknown; left out, no one's is
            known.
    """

    merged: Field
    parents: Sequence[Field]
    names: Sequence[str]
    report: dict[str, Any]
    evidence: Evidence | None
    command: str
    seconds: Sequence[float | None] = ()


def merge_page(story: MergeStory, *, frames: int = FRAMES, size: int = SIZE) -> Page:
    """Gather what can be shown of a merge: pictures, maps, units, time and size.

    Args:
        story: The merge and its parents.
        frames: Frames of each turntable, >= 1.
        size: Longer side of all pictures, pixels.
    """
    report = story.report
    fields = dict(zip([*story.names, MERGED], [*story.parents, story.merged], strict=True))
    standpoints, shown = compared_from(story, size)
    layers, layers_note = units_of(story)
    evidence = story.evidence
    path = field_path(story.merged, frames, size)  # one for all: films run in step
    return Page(
        title=f"{len(story.parents)} fields into one by {report['method'].replace('_', ' ')}",
        verdict=verdict(story),
        note=(
            "No image is at hand: figures are the merge's likeness to its parents along rays of "
            "their own cameras, and what that predicts."
        ),
        command=story.command,
        headings=("parent", "likeness, dB", "predicted, dB", "below the parent, dB"),
        rows=() if evidence is None else tuple(
            (
                name,
                (f"{found.fidelity:.2f}", f"{found.predicted_psnr:.2f}",
                 f"{found.predicted_loss:.2f}"),
                False,
            )
            for name, found in zip(story.names, evidence.parents, strict=True)
        ),
        table_caption=(
            "Likeness: PSNR of the merge against this parent along the parent's own rays. "
            "Predicted: PSNR against images on its views"
        ),
        films=tuple(
            Film(name, sheet_address(film_of(field, path)), True)
            for name, field in fields.items()
        ),
        frames=frames,
        columns=COLUMNS,
        size=size,
        views=standpoints,
        views_note=(
            "From cameras that parents were trained with. The reference is what that parent shows "
            "there, not an image: figures are likeness to the parent and no score."
        ),
        shown=shown,
        first=(MERGED, story.names[-1]),
        maps=tuple(
            Map(f"Parent {name}", map_of(parent, name, size), KNOWLEDGE_TEXT)
            for name, parent in zip(story.names, story.parents, strict=True)
        ),
        layers=layers,
        layers_note=layers_note,
        bars=widths([
            *(
                (name, seconds, parent.parameter_count())
                for name, parent, seconds in zip(
                    story.names, story.parents, story.seconds or [None] * len(story.names),
                    strict=True,
                )
            ),
            (MERGED, float(report["seconds"]), story.merged.parameter_count()),
        ]),
        settings=(
            *settings_of(report, float(report["seconds"])),
            ("config", ", ".join(f"{k} {v}" for k, v in story.merged.config.as_dict().items())),
            ("memonf", __version__),
            ("torch", torch.__version__),
        ),
    )  # fmt: skip


def verdict(story: MergeStory) -> str:
    """What came out, in words that hold whatever the figures are."""
    count, method = len(story.parents), story.report["method"].replace("_", " ")
    said = f"{count} parents became one field by {method} in {story.report['seconds']:.1f} s"
    evidence = story.evidence
    if evidence is None:
        return f"{said}; the parents were not asked what became of them."
    said += (
        f": on the parents' views it should reach {evidence.predicted_psnr:.1f} dB, "
        f"{evidence.predicted_loss:.1f} dB below the parents themselves"
    )
    worst = max(evidence.parents, key=lambda parent: parent.predicted_loss)
    if worst.predicted_loss > evidence.predicted_loss + 1:
        said += f" ({worst.predicted_loss:.1f} dB on the views of {worst.group})"
    said += f"; no parent saw {100 * evidence.unseen_matter:.0f} % of the surface in sight"
    if evidence.disagreement is not None:
        said += (
            f", and parents disagree on {100 * evidence.disagreement:.1f} % of the matter that two "
            "of them saw"
        )
    return said + "."


def film_of(field: Field, cameras: Cameras) -> list[Any]:
    """Frames along a path, uint8 each."""
    renderer = preview(field)
    return [to_bytes(renderer.view(cameras, index).rgb) for index in range(len(cameras))]


def compared_from(story: MergeStory, size: int) -> tuple[tuple[Standpoint, ...], tuple[Shown, ...]]:
    """Pictures of all fields from some cameras of each parent, beside what that parent shows."""
    fields = {MERGED: story.merged, **dict(zip(story.names, story.parents, strict=True))}
    renderers = {name: Renderer.of(field) for name, field in fields.items()}
    standpoints: list[Standpoint] = []
    pictures: dict[str, list[str]] = {name: [] for name in fields}
    likeness: dict[str, list[float]] = {name: [] for name in fields}
    for own, parent in zip(story.names, story.parents, strict=True):
        cameras = parent.record.cameras
        if cameras is None:
            continue
        for view in torch.linspace(0, len(cameras) - 1, STANDPOINTS + 2)[1:-1].round().int():
            camera = cameras[[int(view)]].fitted(size)
            seen: dict[str, Tensor] = {
                name: renderer.view(camera, 0).rgb for name, renderer in renderers.items()
            }
            standpoints.append(
                Standpoint(
                    f"camera {int(view)} of {own}",
                    f"reference: {own} itself",
                    picture_address(to_bytes(seen[own])),
                )
            )
            for name, picture in seen.items():
                pictures[name].append(picture_address(to_bytes(picture)))
                likeness[name].append(min(psnr(picture, seen[own]), 99.0))
    shown = tuple(Shown(name, tuple(pictures[name]), tuple(likeness[name])) for name in fields)
    return tuple(standpoints), shown


def map_of(parent: Field, name: str, size: int) -> str:
    """What a parent knows, as a data: address."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "knowledge.png"
        draw_knowledge(parent, known(parent), path, name=name, frames=4, size=size)
        return file_address(path)


def units_of(story: MergeStory) -> tuple[tuple[Layer, ...], str]:
    """Similarity of the units of the first two parents, or why there is none."""
    try:
        found = alignment_similarities(story.parents[:2])
    except (InputError, MergeError) as error:
        return (), f"These parents' units cannot be compared: {error}"
    note = LAYERS_NOTE
    if len(story.parents) > 2:
        note += f" Of {story.names[0]} and {story.names[1]}."
    return layers_of(found), note
