"""Train two parents, merge them, score all three on views that nobody was trained on.

python examples/01_merge_two_fields.py --out robot    # two minutes; leaves fields for the others
"""

from __future__ import annotations

import argparse
from pathlib import Path

import memonf
from memonf.visualization.turntables import field_turntable
from memonf.visualization.video import to_bytes, write_frames


def main() -> None:
    """The whole story in five calls: scene, train, merge, evaluate, render."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="embedded:robot")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--method", default="distill")
    parser.add_argument("--views", type=int, default=8, help="held-out views to score")
    parser.add_argument("--frames", type=int, default=24, help="of the turntable")
    parser.add_argument("--size", type=int, default=128, help="of the turntable, pixels")
    parser.add_argument("--out", type=Path, default=Path("robot"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    scene = memonf.load_scene(arguments.data)
    fields = {}
    for seed, group in enumerate(("front", "rear")):
        settings = memonf.TrainSettings(steps=arguments.steps, seed=seed)
        fields[group] = memonf.train(scene, group=group, settings=settings)
    # From here on no picture is looked at: the fields are all that is left of them.
    fields["merged"] = memonf.merge([fields["front"], fields["rear"]], arguments.method).field

    for name, field in fields.items():
        memonf.save(field, arguments.out / f"{name}.safetensors")
        scores = memonf.evaluate(field, scene, group="all", most_views=arguments.views)
        print(f"{name:7} {scores.psnr:.2f} dB on {len(scores.views)} held-out views")

    cameras = field_turntable(fields["merged"], arguments.frames, arguments.size)
    renderer = memonf.Renderer.of(fields["merged"])
    frames = [to_bytes(renderer.view(cameras, frame).rgb) for frame in range(len(cameras))]
    write_frames(frames, arguments.out / "merged.gif")
    print(arguments.out / "merged.gif")


if __name__ == "__main__":
    main()
