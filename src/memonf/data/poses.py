"""Poses as files hold them: rotations with a scale, mirrored, sheared, or not finite."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import DataError
from ..typing import Float, Tensor

__all__ = ["precision_notes", "rigid"]

#: Positions beyond this are mistakes; double precision holds 1e-7 units there.
FARTHEST = 1e9
#: Shares of the box by which single precision may move things: that is said, and that is refused.
SAID_LOSS, MOST_LOSS = 1e-5, 1e-4

#: Scales nearer to one than this are rounding, and stay.
ROUNDING = 1e-3
#: Largest error of orthonormality that is taken for rounding.
SHEAR = 1e-2


def rigid(poses: np.ndarray, names: Sequence[str], where: str) -> tuple[np.ndarray, list[str]]:
    """Poses with rotations in them: a uniform scale of their columns is divided out, and said.

    Centres stay: the scale is the camera object's, not the scene's.

    Args:
        poses: (views, 3, 4) as read.
        names: Picture of each, for messages.
        where: File or data set, for messages.

    Returns:
        The poses in double precision, and notes.

    Raises:
        DataError: A pose is not finite, mirrored, sheared or scaled unequally; names the picture.
    """
    poses = poses.astype(np.float64)
    faults = [
        ("its pose holds numbers that are not finite", ~np.isfinite(poses).all((1, 2))),
        (
            f"it stands more than {FARTHEST:g} units from the origin",
            (np.abs(poses[:, :, 3]) > FARTHEST).any(1),
        ),
    ]
    rotations = np.where(np.isfinite(poses), poses, 0.0)[:, :, :3]
    with np.errstate(over="ignore"):  # what is too large is refused as sheared
        lengths = np.linalg.norm(rotations, axis=1)
        scales = np.sqrt((lengths**2).mean(1))
    safe = np.maximum(scales, 1e-30)[:, None, None]
    unit = rotations / safe
    determinants = np.linalg.det(unit)
    gram = np.abs(np.swapaxes(unit, 1, 2) @ unit - np.eye(3)).max((1, 2))
    faults += [
        ("the columns of its rotation are zero", scales < 1e-12),
        ("its rotation is sheared, or scaled unequally", gram > SHEAR),
        ("its pose is mirrored", determinants < 0),
    ]
    for fault, wrong in faults:
        if wrong.any():
            view = int(np.argmax(wrong))
            raise DataError(fault_in_words(
                f"{where}: {names[view]}: {fault}", lengths[view], float(determinants[view]),
                int(wrong.sum()), len(poses)))  # fmt: skip
    scaled = np.abs(scales - 1) > ROUNDING
    if not scaled.any():
        return poses, []
    poses[scaled, :, :3] /= scales[scaled, None, None]
    least, most = scales[scaled].min(), scales[scaled].max()
    by = f"{least:.4g}" if most - least < ROUNDING * most else f"{least:.4g} to {most:.4g}"
    return poses, [f"rotations of {int(scaled.sum())} poses were scaled by {by}: divided out"]


def precision_notes(
    where: str, positions: Float[Tensor, "views 3"], aabb: Float[Tensor, "2 3"], remedy: str
) -> list[str]:
    """A note where single precision rounds coordinates that are not moved, or a refusal.

    Args:
        where: File or data set, for messages.
        positions: Of the cameras, in the coordinates of the box.
        aabb: The box.
        remedy: What to do where it is too much.

    Raises:
        DataError: It would move things by more than `MOST_LOSS` of the box.
    """
    farthest = max(float(positions.abs().max()), float(aabb.abs().max()))
    loss = farthest * 2.0**-24 / float((aabb[1] - aabb[0]).max())
    said = (
        f"coordinates up to {farthest:.7g} are rounded by {loss:.1g} of the box in single precision"
    )
    if loss > MOST_LOSS:
        raise DataError(f"{where}: {said}, too much to keep them: {remedy}")
    return [said] if loss > SAID_LOSS else []


def fault_in_words(
    fault: str, lengths: np.ndarray, determinant: float, wrong: int, total: int
) -> str:
    """What is wrong with a pose, in how many others, and what to do."""
    among = f" ({wrong} of {total} poses are so)" if wrong > 1 else ""
    if fault.endswith("mirrored"):
        return (
            f"{fault} (determinant {determinant:.3g}){among}; expected right, up and back as "
            "columns: negate one axis where the poses are written"
        )
    if fault.endswith("unequally"):
        shown = ", ".join(f"{length:.4g}" for length in lengths)
        return (
            f"{fault}{among}: its columns are {shown} long; expected three that are equally long "
            "and at right angles: undo the scale or the shear where the poses are written"
        )
    return f"{fault}{among}; leave it out or write it again"
