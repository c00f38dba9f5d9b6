r"""Train with some settings changed and print the held-out PSNR: the tool behind docs/research.

    python bench/sweep.py --data DIR --group front --seconds 50 --threads 1 \
        --set '{"weight_decay": 0.3}' --set '{"optimizer": "adam", "config": {"frequencies": 7}}'

Each ``--set`` is a JSON object of `TrainSettings`; its key ``config`` holds the configuration of
the field. One line of JSON a run goes to standard output.
"""

from __future__ import annotations

import argparse
import json
import time

import torch

import memonf
from memonf.fields.tiny_nerf import TinyNerfConfig
from memonf.utils.malloc import keep_freed_memory


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description="train with some settings changed")
    parser.add_argument("--data", required=True)
    parser.add_argument("--group", default="front")
    parser.add_argument("--seconds", type=float, default=50.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--views", type=int, default=20, help="held-out views to score")
    parser.add_argument("--set", type=json.loads, action="append", default=None)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    scene = memonf.load_scene(options.data)
    for changed in options.set or [{}]:
        values = {"seconds": options.seconds, "seed": options.seed} | changed
        config = TinyNerfConfig(**values.pop("config", {}))
        started = time.perf_counter()
        field = memonf.train(
            scene,
            group=options.group,
            config=config,
            settings=memonf.TrainSettings(**values),
        )
        scores = memonf.evaluate(field, scene, group=options.group, most_views=options.views)
        result = {
            "changed": changed,
            "steps": field.record.training["steps_done"],
            "seconds": round(time.perf_counter() - started, 1),
            "psnr": round(scores.psnr, 2),
            "ssim": round(scores.ssim, 4),
        }
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
