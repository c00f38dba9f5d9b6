"""Fields of memonf as plain modules: one tensor in, one tensor out, as the peers trace them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from memonf.fields import FIELDS, build_field

BOX = torch.tensor([[-1.0] * 3, [1.0] * 3])
#: Submodules of a field that lift positions and directions; a field may have none.
ENCODINGS = ("encoding", "direction_encoding")


class Network(nn.Module):
    """A field's `raw` behind one input tensor, which holds the encoded features.

    Encodings have no units, and `rebasin` fails to trace two of them side by side.

    Args:
        architecture: Registered name of the field.
        config: Its configuration as plain values.
    """

    def __init__(self, architecture: str, config: dict[str, Any]) -> None:
        super().__init__()
        cls = FIELDS[architecture]
        field = build_field(architecture, cls.Config.from_dict(config, architecture), BOX)
        self.widths = []
        for name in ENCODINGS[: 1 + cls.view_dependent]:
            encoding = getattr(field, name, None)
            self.widths.append(3 if encoding is None else encoding.features)
            setattr(field, name, nn.Identity())
        self.field = field

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs (points, sum of `widths`) -> raw density and raw colour (points, 4)."""
        parts = inputs.split(self.widths, -1) if len(self.widths) == 2 else (inputs, None)
        density, colour = self.field.raw(*parts)
        return torch.cat([density[:, None], colour], -1)

    def load(self, params: dict[str, Tensor]) -> Network:
        """Take over a field's state dict, with or without its box; returns itself, in eval mode."""
        self.field.load_state_dict({"aabb": BOX} | params)
        return self.eval()
