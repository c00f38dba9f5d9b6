"""The examples in docstrings of public names run, and every public name has one."""

from __future__ import annotations

import doctest
import inspect

import pytest
import torch

import memonf
import memonf.matching
import memonf.merging
import memonf.symmetry
from memonf.fields import FIELDS, build_field
from memonf.merging.aligning import ByActivations, ByWeights
from memonf.merging.parents import Parents

PACKAGES = (memonf, memonf.symmetry, memonf.matching, memonf.merging)
#: Plain data, names from pydantic, and aliases of types.
WITHOUT_EXAMPLE = {
    "METHODS",
    "SETTINGS",
    "Params",
    "Permutations",
    "__version__",
    "settings_dataclass",
}


#: Public names whose docstrings have no example yet.
MISSING = {
    "memonf.Cameras", "memonf.MemonfError", "memonf.Scene", "memonf.Scores", "memonf.TrainSettings",
    "memonf.embedded_scenes", "memonf.evaluate", "memonf.load", "memonf.load_scene", "memonf.save",
    "memonf.train", "memonf.turntable",
}  # fmt: skip


def public() -> dict[str, object]:
    return {
        f"{package.__name__}.{name}": getattr(package, name)
        for package in PACKAGES
        for name in package.__all__
        if name not in WITHOUT_EXAMPLE
    }


def names() -> dict[str, object]:
    """What the examples may use: public names, a box, and two small fields."""
    box = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])
    small = FIELDS["tiny_nerf"].Config.from_dict({"width": 8, "depth": 2, "frequencies": 2}, "test")
    fields = {
        name: build_field("tiny_nerf", small, box, seed=seed).eval()
        for seed, name in enumerate(("front", "rear"))
    }
    shared = {name: getattr(package, name) for package in PACKAGES for name in package.__all__}
    return {
        **shared, **fields, "box": box, "torch": torch, "memonf": memonf, "Parents": Parents,
        "ByActivations": ByActivations, "ByWeights": ByWeights,
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(public()))
def test_the_example_of_a_public_name_runs(name: str) -> None:
    documentation = inspect.getdoc(public()[name]) or ""
    examples = doctest.DocTestParser().get_doctest(documentation, names(), name, None, 0)
    result = doctest.DocTestRunner(verbose=False).run(examples)
    assert result.failed == 0


@pytest.mark.parametrize("name", sorted(public().keys() - MISSING))
def test_every_public_name_has_an_example(name: str) -> None:
    assert "Example:" in (inspect.getdoc(public()[name]) or ""), name
