r"""Peak memory: of training over the number of pictures, and of any command's process tree.

    python bench/memory.py train [--pictures 50 200 1000] [--side 800] [--out JSON]
    python bench/memory.py watch [--out JSON] -- memonf demo --out demo

``train`` writes a NeRF-synthetic folder of large pictures (an embedded scene, enlarged, with noise
of its own on each picture so that PNG has work to do) and runs ``memonf train`` on the first 50,
200, … of them, each time in a fresh process with a fresh cache of decoded pictures.

*Resident* counts every page that a process has mapped, those of mapped files too, which the system
takes back when it needs room. *Anonymous* is what it cannot take back. *Proportional* shares each
page among the processes that have it mapped, so that it may be summed over a tree. Linux only.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from memonf.data import load_scene

MEBI = 2**20
INTERVAL = 0.2
NOISE = 24


@dataclass
class Peaks:
    """Peaks of a process tree, in MiB, and the seconds that it ran.

    Attributes:
        seconds: Wall time.
        resident: Largest resident set of any one process, as the kernel keeps it (VmHWM).
        anonymous: Largest sum over the tree of what cannot be taken back, sampled.
        proportional: Largest sum over the tree of proportional sets, sampled.
        processes: Peak resident set of each process, in the order of their start.
        at_the_peak: Proportional set of each process when their sum was largest.
    """

    seconds: float = 0.0
    resident: float = 0.0
    anonymous: float = 0.0
    proportional: float = 0.0
    processes: dict[int, float] = field(default_factory=dict)
    at_the_peak: dict[int, float] = field(default_factory=dict)


def kibibytes(path: Path) -> dict[str, int]:
    """Lines ``Name: N kB`` of a file in /proc; empty for a process that has gone."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {words[0][:-1]: int(words[1]) for words in lines if words[-1] == "kB"}


def tree(root: int) -> list[int]:
    """A process and all that descend from it."""
    found = [root]
    for process in found:
        try:
            lists = list(Path(f"/proc/{process}/task").glob("*/children"))
            found += [int(child) for one in lists for child in one.read_text().split()]
        except OSError:
            continue
    return found


def look(root: int, peaks: Peaks) -> None:
    """Raise the peaks to what the processes take now."""
    proportional: dict[int, float] = {}
    anonymous = 0.0
    for process in tree(root):
        folder = Path("/proc") / str(process)
        highest = kibibytes(folder / "status").get("VmHWM", 0) / 1024
        peaks.processes[process] = max(peaks.processes.get(process, 0.0), highest)
        rollup = kibibytes(folder / "smaps_rollup")
        proportional[process] = rollup.get("Pss", 0) / 1024
        anonymous += rollup.get("Pss_Anon", 0) / 1024
    peaks.anonymous = max(peaks.anonymous, anonymous)
    if sum(proportional.values()) > peaks.proportional:
        peaks.proportional, peaks.at_the_peak = sum(proportional.values()), proportional


def watch(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Peaks:
    """Run a command and look at its processes until it ends, or is ended by Ctrl-C.

    Raises:
        CalledProcessError: The command failed.
    """
    started = time.perf_counter()
    peaks = Peaks()
    running = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, env={**os.environ, **(environment or {})}
    )
    try:
        while running.poll() is None:
            look(running.pid, peaks)
            time.sleep(INTERVAL)
    except KeyboardInterrupt:
        running.terminate()
        running.wait()
    else:
        if running.returncode:
            raise subprocess.CalledProcessError(running.returncode, list(command))
    peaks.seconds = time.perf_counter() - started
    peaks.resident = max(peaks.processes.values(), default=0.0)
    return peaks


def write_pictures(folder: Path, count: int, side: int, scene: str, seed: int) -> list[dict]:
    """Write `count` RGBA pictures of side x side pixels; their frames for ``transforms``."""
    views = load_scene(f"embedded:{scene}").split("train")
    noise = np.random.default_rng(seed)
    frames = []
    for index in range(count):
        view = index % len(views)
        small = Image.fromarray(views.image(view).numpy())
        pixels = np.array(small.resize((side, side), Image.Resampling.NEAREST), dtype=np.int16)
        grain = noise.integers(-NOISE, NOISE + 1, pixels.shape[:2], dtype=np.int16)
        pixels[..., :3] += grain[..., None] * (pixels[..., 3:] > 0)
        picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        picture.save(folder / f"r_{index}.png", compress_level=1)
        pose = [*views.cameras.camera_to_world[view].tolist(), [0, 0, 0, 1]]
        frames.append({"file_path": f"r_{index}", "transform_matrix": pose})
    return frames


def field_of_view(scene: str) -> float:
    """Horizontal angle of a scene's cameras, radians."""
    cameras = load_scene(f"embedded:{scene}").split("train").cameras
    return 2 * math.atan(cameras.size(0)[0] / 2 / float(cameras.intrinsics[0, 0]))


def over_pictures(options: argparse.Namespace) -> list[dict]:
    """Train on more and more pictures; one row each."""
    rows = []
    print("| pictures | pixels, MiB | resident, MiB | anonymous, MiB | seconds |")
    print("|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        frames = write_pictures(
            folder, max(options.pictures), options.side, options.scene, options.seed
        )
        angle = field_of_view(options.scene)
        for count in options.pictures:
            content = {"camera_angle_x": angle, "frames": frames[:count]}
            (folder / "transforms_train.json").write_text(json.dumps(content))
            command = [
                sys.executable, "-m", "memonf", "train", "--data", str(folder), "--quiet",
                "--steps", str(options.steps), "--out", str(folder / "field.safetensors"),
            ]  # fmt: skip
            with tempfile.TemporaryDirectory(dir=options.folder) as cache:
                peaks = watch(command, {"MEMONF_CACHE": cache})
            pixels = count * options.side**2 * 4 / MEBI
            rows.append({"pictures": count, "pixels": pixels, **asdict(peaks)})
            print(
                f"| {count} | {pixels:.0f} | {peaks.resident:.0f} | {peaks.anonymous:.0f} "
                f"| {peaks.seconds:.0f} |",
                flush=True,
            )
    return rows


def watched(options: argparse.Namespace) -> list[dict]:
    """Watch one command; one row."""
    peaks = watch(options.command)
    print("| process | resident at its peak, MiB | proportional at the tree's peak, MiB |")
    print("|---|---:|---:|")
    for number, (process, highest) in enumerate(peaks.processes.items()):
        print(f"| {number} | {highest:.0f} | {peaks.at_the_peak.get(process, 0.0):.0f} |")
    print(f"| all | | {peaks.proportional:.0f} |")
    print(f"\nAnonymous: {peaks.anonymous:.0f} MiB in all; {peaks.seconds:.0f} s.")
    return [asdict(peaks)]


def main() -> None:
    """Parse the command line, measure, print Markdown, write JSON."""
    parser = argparse.ArgumentParser(description="peak memory")
    verbs = parser.add_subparsers(required=True)
    train = verbs.add_parser("train", help="training, over the number of pictures")
    train.add_argument("--pictures", type=int, nargs="+", default=[50, 200, 1000])
    train.add_argument("--side", type=int, default=800, help="of the pictures, pixels")
    train.add_argument("--steps", type=int, default=30)
    train.add_argument("--scene", default="robot", help="embedded scene that is enlarged")
    train.add_argument("--seed", type=int, default=0, help="of the noise")
    train.add_argument("--folder", type=Path, help="for pictures and cache, several GB")
    train.set_defaults(run=over_pictures)
    any_command = verbs.add_parser("watch", help="any command and its processes")
    any_command.add_argument("command", nargs="+", metavar="-- COMMAND")
    any_command.set_defaults(run=watched)
    for verb in (train, any_command):
        verb.add_argument("--out", type=Path, help="JSON")
    options = parser.parse_args()
    rows = options.run(options)
    if options.out:
        options.out.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
