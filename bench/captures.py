"""Training without a visual hull: how fast fog is forgotten, and what that costs.

python bench/captures.py DATA --forget 0.3 --steps 400
python bench/captures.py DATA --forget 0.1 --octaves 8 --half-side 4
"""

from __future__ import annotations

import argparse
import time

import memonf
import memonf.training.trainer as training
from memonf.fields.tiny_nerf import TinyNerfConfig
from memonf.training import new_trainer


def main() -> None:
    """Train on all views, score on the held-out ones, print one row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--forget", type=float, default=0.3, help="share of a density, each look")
    parser.add_argument("--begin", type=float, default=10.0, help="thresholds of a fresh cell")
    parser.add_argument("--octaves", type=int, default=6)
    parser.add_argument("--half-side", type=float, default=None)
    parser.add_argument("--steps", type=int, default=400)
    options = parser.parse_args()
    training.DECAY_WITHOUT_HULL = 1 - options.forget
    scene = memonf.load_scene(options.data, half_side=options.half_side)
    trainer = new_trainer(
        scene, config=TinyNerfConfig(frequencies=options.octaves),
        settings=memonf.TrainSettings(steps=options.steps, seed=1),
    )  # fmt: skip
    trainer.grid.density.fill_(options.begin * trainer.grid.threshold)
    started = time.perf_counter()
    while not trainer.done:
        trainer.step()
    seconds = time.perf_counter() - started
    scores = memonf.evaluate(trainer.field.eval(), scene)
    print(
        f"| {' '.join(f'{k} {v}' for k, v in vars(options).items() if k != 'data')} | "
        f"{seconds:.0f} | {scores.psnr:.2f} |"
    )


if __name__ == "__main__":
    main()
