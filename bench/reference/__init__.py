"""What people use instead, written plainly: one file a script, to be read as the thing itself.

Each has ``build(scene, seed)``, which gives a `Reference`. They share nothing with the trainer and
the renderer that they are compared with, but the scene, its cameras and its rays.
"""

from __future__ import annotations

from typing import Protocol

from memonf.cameras.cameras import Cameras
from memonf.typing import Tensor

__all__ = ["Reference"]


class Reference(Protocol):
    """A field in training."""

    def step(self) -> float:
        """Train by one step: the loss before it, a mean squared error."""

    def render(self, cameras: Cameras, view: int) -> Tensor:
        """Picture of one camera: (height, width, 3), rgb."""
