"""Five phones saw a fifth of the scene each: merge all at once, and one that comes later.

python examples/04_five_phones.py --out phones    # three minutes
"""

from __future__ import annotations

import argparse
from pathlib import Path

import memonf
from memonf.evaluation.image_free import assess


def main() -> None:
    """Train N parents on N sectors; merge files, of which two at most are in memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="embedded:robot")
    parser.add_argument("--phones", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--method", default="distill")
    parser.add_argument("--out", type=Path, default=Path("phones"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    scene = memonf.load_scene(arguments.data)
    files = []
    for phone in range(1, arguments.phones + 1):
        parent = memonf.train(
            scene,
            group=f"sector {phone}/{arguments.phones}",
            settings=memonf.TrainSettings(steps=arguments.steps, seed=phone),
        )
        files.append(arguments.out / f"phone{phone}.safetensors")
        memonf.save(parent, files[-1])

    at_once = memonf.merge(files, arguments.method).field
    memonf.save(at_once, arguments.out / "all.safetensors")
    # The last phone comes later: the merge of the others counts for as many as it was made of.
    earlier = memonf.merge(files[:-1], arguments.method).field
    share = 1 / arguments.phones
    later = memonf.merge(
        [earlier, memonf.load(files[-1])], arguments.method, coefficients=[1 - share, share]
    ).field
    parents = [memonf.load(file) for file in files]
    for name, field in (("all at once", at_once), ("the last one later", later)):
        said = assess(field, parents)
        print(f"{name}: {said.predicted_psnr:.2f} dB predicted, "
              f"{said.unseen_matter:.1%} of the matter seen by nobody")  # fmt: skip


if __name__ == "__main__":
    main()
