"""A field as an ONNX network: positions and directions in, density and colour out.

It takes the capture's coordinates: the placement is part of the network. Where single precision
does not hold these (`in_double`), positions are double precision.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ...cameras.frames import single_precision_loss
from ...errors import InputError
from ...fields import Field
from ...typing import PathLike, Tensor
from ...utils.files import replacing
from .geometry import MOST_LOSS

__all__ = ["TOLERANCE", "InWorld", "in_double", "write_onnx"]

#: Largest difference from the field that is accepted: of densities relative to 1 + density.
TOLERANCE = 1e-4
#: Points that the two are compared at.
COMPARED = 4096


class InWorld(nn.Module):
    """A field in the coordinates of its capture.

    Args:
        field: On any device; a view-dependent one needs directions.
    """

    rotation: Tensor
    translation: Tensor

    def __init__(self, field: Field) -> None:
        super().__init__()
        self.field = field
        placement = field.record.placement
        kind = torch.float64 if in_double(field) else torch.float32
        rotation = torch.eye(3) if placement is None else placement.rotation
        offset = torch.zeros(3) if placement is None else placement.translation
        self.scale = 1.0 if placement is None else placement.scale
        self.register_buffer("rotation", rotation.to(field.aabb.device, kind))
        self.register_buffer("translation", offset.to(field.aabb.device, kind))

    def forward(self, positions: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Density per world unit (points,) and rgb (points, 3).

        Args:
            positions: (points, 3), world coordinates; double precision where `in_double`.
            directions: (points, 3), unit length, from the eye into the scene.
        """
        turned = self.scale * (positions @ self.rotation.T + self.translation)
        density, rgb = self.field(turned.float(), directions @ self.rotation.float().T)
        return density * self.scale, rgb


def in_double(field: Field) -> bool:
    """Whether single precision would move positions by over a millionth of the field's box."""
    placement = field.record.placement
    if placement is None:
        return False
    return single_precision_loss(placement.to_world(field.aabb)) > MOST_LOSS


def write_onnx(field: Field, path: PathLike) -> float:
    """Write the network and compare what it computes with the field.

    Returns:
        The largest difference: of rgb, and of density divided by 1 + density.

    Raises:
        InputError: The extra is missing, or the two differ by more than `TOLERANCE`.
        OutputError: It cannot be written.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError:
        raise InputError(
            'ONNX needs onnx, onnxscript and onnxruntime: pip install "memonf[onnx]"'
        ) from None
    network = InWorld(field).eval().cpu()
    positions, directions = samples(network)
    with replacing(path) as temporary:
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of the exporter's own parts
            torch.onnx.export(
                network, (positions, directions), temporary, dynamo=True, verbose=False,
                external_data=False, input_names=["positions", "directions"],
                output_names=["density", "rgb"],
                dynamic_shapes=({0: torch.export.Dim("points")}, {0: torch.export.Dim("points")}),
            )  # fmt: skip
            expected = [value.numpy() for value in network(positions, directions)]
        session = onnxruntime.InferenceSession(temporary, providers=["CPUExecutionProvider"])
        names = [given.name for given in session.get_inputs()]
        given = {"positions": positions.numpy(), "directions": directions.numpy()}
        density, rgb = session.run(None, {name: given[name] for name in names})
        difference = max(
            float(np.abs(rgb - expected[1]).max()),
            float((np.abs(density - expected[0]) / (1 + np.abs(expected[0]))).max()),
        )
        if not difference <= TOLERANCE:
            raise InputError(
                f"{Path(path)}: the ONNX network differs from the field by {difference:.2g}, more "
                f"than {TOLERANCE:g}; nothing was written"
            )
    return difference


def samples(network: InWorld) -> tuple[Tensor, Tensor]:
    """Places in and around the field's box, world coordinates, and directions."""
    generator = torch.Generator().manual_seed(0)
    lower, upper = network.field.aabb.to(network.rotation)
    share = torch.rand(COMPARED, 3, generator=generator) * 1.1 - 0.05
    scene = lower + share * (upper - lower)
    world = (scene / network.scale - network.translation) @ network.rotation
    directions = torch.randn(COMPARED, 3, generator=generator)
    return world, nn.functional.normalize(directions, dim=-1)
