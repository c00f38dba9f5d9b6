r"""What pictures of a field converge to, and what that costs: the table in docs/research/speed.md.

    python bench/pictures.py --data lego_100 --field joint.safetensors --views 20

One thread. A row for each way to sample: samples and milliseconds a view, PSNR on evenly spread
held-out views, the same for all rows.
"""

from __future__ import annotations

import argparse
import time
from statistics import fmean, median

import torch

import memonf
from memonf.evaluation.evaluate import spread
from memonf.evaluation.metrics import psnr
from memonf.rendering.baking import preview
from memonf.rendering.ray_marching import MarchSettings, march
from memonf.rendering.volume_rendering import FRAMES, PICTURES, SKETCHES, Renderer, Sampling
from memonf.utils.malloc import keep_freed_memory

#: Name -> how a field is sampled; the last is the limit for all that the eye and PSNR can tell.
WAYS = {
    "SKETCHES (as scored before)": SKETCHES,
    "120, step 2": Sampling(120, 3, MarchSettings(step=2.0, hidden_rate=0.05)),
    "FRAMES": FRAMES,
    "120, step 1": Sampling(120, 3, MarchSettings(step=1.0, hidden_rate=0.05)),
    "PICTURES": PICTURES,
    "120, step 0.3, nothing thinned": Sampling(120, 3, MarchSettings(step=0.3, hidden_rate=1.0)),
}


def main() -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(description="what pictures of a field converge to")
    parser.add_argument("--data", required=True)
    parser.add_argument("--field", required=True)
    parser.add_argument("--views", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    scene, field = memonf.load_scene(options.data), memonf.load(options.field)
    views = spread(scene.split("test"), options.views)
    print(
        "| sampled | samples a view | made ready, s | ms a view | dB |\n|---|---:|---:|---:|---:|"
    )
    for name in [*WAYS, "baked preview"]:
        started = time.perf_counter()
        renderer = Renderer.of(field, WAYS[name]) if name in WAYS else preview(field)
        ready = time.perf_counter() - started
        seconds, psnrs, samples = [], [], []
        for view in range(len(views)):
            started = time.perf_counter()
            rgb = renderer.view(views.cameras, view).rgb
            seconds.append(time.perf_counter() - started)
            psnrs.append(psnr(rgb, views.picture(view, scene.background_rgb)))
            rays = views.cameras.view_rays(view)
            near, far = renderer.near, renderer.far
            samples.append(len(march(rays, renderer.grid, renderer.march, near=near, far=far)))
        print(
            f"| {name} | {fmean(samples) / 1e3:.0f} k | {ready:.2f} | "
            f"{median(seconds) * 1e3:.0f} | {fmean(psnrs):.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
