r"""Seconds and peak memory of merging against width, number of parents, points and rays.

    python bench/scaling.py --out FOLDER --pair FRONT.safetensors REAR.safetensors \
        [--only width parents points] [--most 512] [--repeats 3]

Every run is a process of its own on one thread: its peak memory is its own, and it pays for what
only a first call costs. Seconds are those of the processor, so that another process on the core
does not count. Parents of the rows by width and by number are untrained `tiny_nerf` fields, one
network under planted orders with noise of one standard deviation of each tensor; those by points
and rays are a trained pair. Rows go to FOLDER/scaling.json, ``scripts/make_scaling_table.py`` makes
the tables.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from planted import network, noisy

from memonf.fields import Field
from memonf.matching import Matcher
from memonf.merging import merge
from memonf.symmetry import Element, find_symmetry, transform

NOISE = 1.0
CASES: dict[str, list[dict[str, Any]]] = {
    "width": [
        {"what": what, "width": width, "parents": 2}
        for width in (64, 128, 256, 512, 1024, 2048)
        for what in ("match", "weight_matching")
    ],
    "parents": [
        {"what": "weight_matching", "width": 128, "parents": count} for count in (4, 8, 16)
    ],
    "points": [
        *(
            {"what": what, "points": count}
            for what in ("activation_matching", "least_squares")
            for count in (4096, 16384, 65536)
        ),
        *({"what": "gauss_newton", "rays": count} for count in (2048, 8192, 32768)),
    ],
}


def planted_parents(width: int, count: int) -> list[Field]:
    """One network under random orders, each time with noise of its own."""
    parents = []
    for number in range(count):
        field = network("tiny_nerf", width, 0)
        symmetry = find_symmetry(field)
        params = {name: tensor.clone() for name, tensor in field.state_dict().items()}
        order = Element(symmetry.random(torch.Generator().manual_seed(number)))
        field.load_state_dict(transform(noisy(params, NOISE, number), symmetry, order))
        parents.append(field)
    return parents


def measure(case: dict[str, Any], pair: list[str]) -> dict[str, float]:
    """Run one case in this process."""
    torch.set_num_threads(1)
    settings = {key: case[key] for key in ("points", "rays") if key in case}
    fields = planted_parents(case["width"], case["parents"]) if "width" in case else pair
    started = time.process_time()
    if case["what"] == "match":
        one, other = fields
        assert isinstance(one, Field)
        assert isinstance(other, Field)
        Matcher().match(find_symmetry(one), one.state_dict(), other.state_dict())
    else:
        merge(fields, case["what"], force=True, **settings)
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "megabytes": peak}


def main() -> None:
    """Parse the command line and run each case in fresh processes."""
    parser = argparse.ArgumentParser(description="seconds and memory of merging")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--pair", nargs=2, default=[], help="a trained pair of field files")
    parser.add_argument("--only", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--most", type=int, default=2048, help="widest network")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--case", default="", help="run this one here and print what it took")
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(json.loads(options.case), options.pair)))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "scaling.json"
    rows = json.loads(file.read_text()) if file.exists() else []
    done = [row["case"] for row in rows]
    for kind in options.only:
        for case in CASES[kind]:
            if case in done or case.get("width", 0) > options.most:
                continue
            runs: list[dict[str, float]] = []
            # A row that takes over two minutes is not run again.
            while len(runs) < options.repeats and not any(run["seconds"] > 120 for run in runs):
                pair = ["--pair", *options.pair] if options.pair else []
                command = [sys.executable, __file__, "--case", json.dumps(case), *pair]
                found = subprocess.run(command, capture_output=True, text=True, check=True)
                runs.append(json.loads(found.stdout.splitlines()[-1]))
            rows.append({"case": case, "runs": runs})
            print(json.dumps(rows[-1]), flush=True)
            file.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
