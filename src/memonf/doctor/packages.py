"""Versions of what takes part, and which extras are installed."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import torch

from .._version import __version__

__all__ = ["EXTRAS", "extras", "versions"]

#: Extra -> modules that it brings.
EXTRAS = {
    "viewer": ("viser",),
    "tensorboard": ("tensorboard",),
    "colmap": ("pycolmap",),
    "mesh": ("skimage", "trimesh"),
    "shapes": ("igl", "skimage", "trimesh"),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "fuzz": ("atheris",),
    "docs": ("sphinx", "furo", "myst_nb", "sphinx_copybutton"),
    "notebook": ("ipykernel", "nbclient", "nbformat"),
}


def versions() -> dict[str, str]:
    """Of what takes part."""
    found = {"memonf": __version__, "python": platform.python_version()}
    for name in ("torch", "numpy", "av"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    settings = torch.__config__.show()
    found["blas"] = next((b for b in ("MKL", "OpenBLAS", "Accelerate") if b.lower()
                          in settings.lower()), "unknown")  # fmt: skip
    found["cuda"] = torch.version.cuda or "none (a build for CPUs)"
    found["x264"] = "yes" if has_x264() else "no"
    return found


def has_x264() -> bool:
    """Whether films can be written as .mp4."""
    try:
        import av

        av.Codec("libx264", "w")
    except (ImportError, ValueError):
        return False
    return True


def extras() -> list[dict[str, Any]]:
    """Each extra, whether all of it is installed, and how to install it."""
    return [
        {
            "name": name,
            "installed": all(find_spec(module) is not None for module in modules),
            "install": f'pip install "memonf[{name}]"',
        }
        for name, modules in EXTRAS.items()
    ]
