"""Fields beyond radiance: trained on a part of a shape or a picture, scored on all of it, drawn.

Merging them takes nothing from here: `memonf.merge` knows them as fields.
"""

from .drawing import draw
from .fitting import FitSettings, Fitter, fit
from .scoring import score
from .truths import PARTS, ImageTruth, MeshTruth, Truth, open_truth

__all__ = [
    "PARTS",
    "FitSettings",
    "Fitter",
    "ImageTruth",
    "MeshTruth",
    "Truth",
    "draw",
    "fit",
    "open_truth",
    "score",
]
