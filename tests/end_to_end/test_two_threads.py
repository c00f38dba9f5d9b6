"""The same command gives the same params with two threads as well, ten times in a row."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TIMES = 10

#: Runs in a process of its own: this one has one thread.
SCRIPT = """
import sys
import torch
import memonf
from memonf.io.checkpoint import content_hash
from memonf.fields.tiny_nerf import TinyNerfConfig

assert torch.get_num_threads() == 2
scene = memonf.load_scene(sys.argv[2])
settings = memonf.TrainSettings(steps=30, rays=1024, seed=3)

def trained(group):
    return memonf.train(scene, group=group, config=TinyNerfConfig(width=64), settings=settings)

if sys.argv[1] == "train":
    hashes = [content_hash(trained("front")) for _ in range(TIMES)]
else:
    parents = [trained("front"), trained("rear")]
    hashes = [
        content_hash(memonf.merge(parents, steps=20, rays=1024, force=True).field)
        for _ in range(TIMES)
    ]
print(len(set(hashes)))
"""


@pytest.mark.parametrize("verb", ["train", "distill"])
def test_two_threads_give_the_same_params_ten_times(verb: str, little_scene: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("TIMES", str(TIMES)), verb, str(little_scene)],
        env={**os.environ, "OMP_NUM_THREADS": "2"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1"]
