"""A merge method of your own: one class, and everything that takes a method takes it.

python examples/03_a_method_of_your_own.py robot/front.safetensors robot/rear.safetensors
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import memonf
from memonf.evaluation.image_free import predict
from memonf.merging import METHODS, SETTINGS, AlignedMethod, combine_params, settings_dataclass
from memonf.merging.aligning import AlignedParents, ByWeights
from memonf.merging.coefficients import Coefficients
from memonf.symmetry import Params


@METHODS.register("loudest")
@settings_dataclass(**SETTINGS)
class Loudest(AlignedMethod):
    """Align by params; where one parent's param is much larger than the mean, take it alone.

    Attributes:
        ratio: How many times as large as the mean it must be, > 1.
    """

    summary = "units aligned by their params, loud params kept whole"
    paper = "an example of this repository"
    idempotent = True
    align = ByWeights()
    ratio: float = 1.8

    def combine(
        self, state: AlignedParents, coefficients: Coefficients
    ) -> tuple[Params, dict[str, float]]:
        """See `MergeMethod.combine`."""
        aligned = list(state.params)
        mean = combine_params(aligned, coefficients)
        taken = 0
        merged = dict(mean)
        for name, tensor in mean.items():
            if not tensor.is_floating_point() or name == "aabb":
                continue
            each = torch.stack([params[name] for params in aligned])
            loudest = each.gather(0, each.abs().argmax(0, keepdim=True))[0]
            loud = loudest.abs() > self.ratio * tensor.abs()
            merged[name] = torch.where(loud, loudest, tensor)
            taken += int(loud.sum())
        return merged, {"params_taken_alone": taken}


def main() -> None:
    """Merge by the new method and by its neighbours; ask the parents how good they are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parents", type=Path, nargs="+")
    arguments = parser.parse_args()
    parents = [memonf.load(path) for path in arguments.parents]
    merges = {
        "weight_matching": memonf.merge(parents, "weight_matching"),
        "loudest": memonf.merge(parents, "loudest"),
        "loudest, ratio 1.2": memonf.merge(parents, "loudest", ratio=1.2),
    }
    for name, merge in merges.items():
        # No picture is at hand: the prediction comes from rays along the parents' own cameras.
        predicted = [found.predicted_psnr for found in predict(merge.field, parents)]
        print(f"{name}: {sum(predicted) / len(predicted):.2f} dB predicted")


if __name__ == "__main__":
    main()
