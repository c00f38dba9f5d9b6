"""The naive control: average the params as they stand."""

from __future__ import annotations

from ..method import METHODS, SETTINGS, settings_dataclass
from ..parts import ComposedMethod, Parts

__all__ = ["Average"]


@METHODS.register("average")
@settings_dataclass(**SETTINGS)
class Average(ComposedMethod):
    """Average params without alignment; blurred, unless parents started from the same params."""

    summary = "params averaged as they stand, the naive control"
    paper = "Wortsman et al. 2022, Model soups, arXiv 2203.05482"
    symmetric = True
    layerwise = True

    def parts(self) -> Parts:
        """See `ComposedMethod.parts`."""
        return Parts()
