r"""Planted symmetries: how much of a known answer each matcher finds, beside two public packages.

A network with random params is changed by a random element of its symmetry, then noise of some
standard deviations of each tensor is added. What a matcher should answer is known. Reported are
the share of units recovered, the agreement reached relative to the planted one, the relative
output error of the merge of both, and seconds.

    python bench/planted.py --out FOLDER [--widths 64 128] [--noises 0 1] [--seeds 3]
    python bench/planted.py --out FOLDER --peers FOLDER_OF_ENVIRONMENTS   # beside the packages
    python bench/planted.py --out FOLDER --gauges                         # scales, signs, turns too

One JSON line a run goes to FOLDER/planted.jsonl; what stands there already is not run again.
``scripts/make_planted_table.py FOLDER`` makes the tables.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peers import create, peer_result, save_instance
from safetensors.torch import load_file

from memonf.fields import Field, build_field
from memonf.fields.nerf import NerfConfig
from memonf.fields.siren import SirenConfig
from memonf.fields.tiny_nerf import TinyNerfConfig
from memonf.matching import Match, Matcher
from memonf.symmetry import Element, Params, Symmetry, find_symmetry, random_element, transform
from memonf.typing import Tensor

BOX = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])
#: Statistics and the box carry no noise and do not count.
NOT_COUNTED = ("aabb", "running_mean", "running_var", "num_batches_tracked")
SOLVERS = ("auto", "best", "descent", "frank_wolfe", "annealing")


def network(kind: str, width: int, seed: int) -> Field:
    """An architecture of the benchmark with random params, biases and norm statistics."""
    config = {
        "tiny_nerf": TinyNerfConfig(width=width),
        "batch_norm": TinyNerfConfig(width=width, batch_norm=True),
        "nerf": NerfConfig(width=width, view_width=width // 2),
        "siren": SirenConfig(width=width),
    }[kind]
    name = "tiny_nerf" if kind == "batch_norm" else kind
    field = build_field(name, config, BOX, seed=seed)
    generator = torch.Generator().manual_seed(1000 + seed)
    for key, tensor in field.state_dict().items():
        if key.endswith(("bias", "running_mean")):
            tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
        elif key.endswith("running_var") or ("norm" in key and key.endswith("weight")):
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    return field.eval()


def noisy(params: Params, noise: float, seed: int) -> Params:
    """Params with noise of so many of each tensor's standard deviations."""
    generator = torch.Generator().manual_seed(2000 + seed)
    out = dict(params)
    for name, tensor in params.items():
        if not name.endswith(NOT_COUNTED) and tensor.numel() > 1:
            drawn = torch.randn(tensor.shape, generator=generator)
            out[name] = tensor + noise * tensor.std() * drawn
    return out


def answers(field: Field, params: Params) -> Tensor:
    """Raw outputs at fixed points and directions."""
    generator = torch.Generator().manual_seed(0)
    positions = 2 * torch.rand(512, 3, generator=generator) - 1
    directions = torch.nn.functional.normalize(torch.randn(512, 3, generator=generator), dim=-1)
    field.load_state_dict(params)
    with torch.no_grad():
        density, rgb = field.raw(positions, directions)
    return torch.cat([density[:, None], rgb], 1)


def merged_error(field: Field, a: Params, aligned: Params) -> float:
    """Relative output error of the mean of both against the first."""
    mean = {
        name: 0.5 * (tensor + aligned[name]) if tensor.is_floating_point() else tensor
        for name, tensor in a.items()
    }
    before = answers(field, a)
    return float((answers(field, mean) - before).norm() / before.norm())


def agreement(a: Params, b: Params) -> float:
    """Inner product of all counted params, each tensor relative to its own mean squares."""
    total = 0.0
    for name, tensor in a.items():
        if not name.endswith(NOT_COUNTED):
            ours, theirs = tensor.double(), b[name].double()
            size = (ours.square().mean() * theirs.square().mean()).sqrt().clamp_min(1e-30)
            total += float((ours * theirs).sum() / size)
    return total


def recovered(symmetry: Symmetry, planted: Element, found: dict[str, Tensor]) -> float:
    """Share of units that stand where they were taken from.

    Units without activation have no order of their own (any map is a symmetry) and are left out.
    """
    hits, units = 0, 0
    for group in symmetry.groups:
        if group.gauge("linear") is None:
            undone = planted.perms[group.name][found[group.name]]
            hits += int((undone == torch.arange(group.size)).sum())
            units += group.size
    return hits / units


def order_of(symmetry: Symmetry, b: Params, aligned: Params) -> dict[str, Tensor]:
    """Which unit of `b` stands at each slot of `aligned`, read off the biases, all different."""
    found = {}
    for group in symmetry.groups:
        part = next(p for p in group.slices if p.tensor.endswith("bias"))
        place = {float(value): index for index, value in enumerate(b[part.tensor])}
        found[group.name] = torch.tensor([place.get(float(v), 0) for v in aligned[part.tensor]])
    return found


class Instance:
    """A network, its twin under a planted element with noise, and the planted answer."""

    def __init__(self, kind: str, width: int, noise: float, seed: int, gauges: bool) -> None:
        self.field = network(kind, width, seed)
        self.symmetry = find_symmetry(self.field)
        self.a = {name: tensor.clone() for name, tensor in self.field.state_dict().items()}
        element = random_element(self.symmetry, torch.Generator().manual_seed(seed))
        self.element = element if gauges else Element(element.perms)
        self.noisy = noisy(self.a, noise, seed)
        self.b = transform(self.noisy, self.symmetry, self.element)
        self.labels: dict[str, Any] = {
            "kind": kind, "width": width, "noise": noise, "seed": seed, "gauges": gauges,
        }  # fmt: skip

    def match(self, solver: str = "best") -> Match:
        """What this project's matcher finds."""
        return Matcher(solver=solver).match(self.symmetry, self.a, self.b)  # type: ignore[arg-type]

    def ours(self, solver: str) -> dict[str, Any]:
        """One run of this project's matcher."""
        started = time.perf_counter()
        match = self.match(solver)
        seconds = time.perf_counter() - started
        aligned = match.apply(self.b)
        return {
            "recovered": recovered(self.symmetry, self.element, match.perms),
            "agreement": agreement(self.a, aligned) / agreement(self.a, self.noisy),
            "objective": match.solution.objective,
            "bound": match.solution.bound,
            "error": merged_error(self.field, self.a, aligned),
            "seconds": seconds,
            "found_by": match.solution.found_by,
        }

    def peer(self, name: str, environments: Path, limit: float) -> dict[str, Any]:
        """One run of a public package in its own environment."""
        path = environments / "instance.safetensors"
        save_instance(
            path, self.field.name, self.field.config.as_dict(), self.a, self.b,
            seed=self.labels["seed"],
        )  # fmt: skip
        found = peer_result(name, path, environments, limit, iterations=500)
        result: dict[str, Any] = {"status": found["status"], "seconds": found.get("seconds")}
        if found["status"] == "ok":
            aligned = load_file(str(found["aligned"]))
            order = order_of(self.symmetry, self.b, aligned)
            result |= {
                "recovered": recovered(self.symmetry, self.element, order),
                "agreement": agreement(self.a, aligned) / agreement(self.a, self.noisy),
                "error": merged_error(self.field, self.a, aligned),
            }
        return result


def instances(options: argparse.Namespace) -> Iterator[tuple[str, int, float, int]]:
    """Architecture, width, noise and seed of all instances, small ones first."""
    for width in options.widths:
        for kind in options.kinds:
            for noise in options.noises:
                for seed in range(options.seeds):
                    yield kind, width, noise, seed


def main() -> None:
    """Parse the command line and run what is missing."""
    parser = argparse.ArgumentParser(description="planted symmetries")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kinds", nargs="+", default=["tiny_nerf", "batch_norm", "siren", "nerf"])
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--noises", type=float, nargs="+", default=[0, 0.1, 0.3, 0.7, 1, 3])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--solvers", nargs="*", default=list(SOLVERS), choices=SOLVERS)
    parser.add_argument("--gauges", action="store_true")
    parser.add_argument("--peers", type=Path, default=None)
    parser.add_argument("--limit", type=float, default=120.0, help="seconds for a package's run")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    log = options.out / "planted.jsonl"
    done = {run_key(json.loads(line)) for line in log.read_text().splitlines()} if (
        log.exists()
    ) else set()  # fmt: skip
    for name in ("rebasin", "sinkhorn") if options.peers else ():
        create(name, options.peers)
    for kind, width, noise, seed in instances(options):
        instance = Instance(kind, width, noise, seed, options.gauges)
        tools = [*options.solvers, *(["rebasin", "sinkhorn"] if options.peers else [])]
        for tool in tools:
            labels = {**instance.labels, "tool": tool}
            if run_key(labels) in done:
                continue
            result = (
                instance.ours(tool)
                if tool in SOLVERS
                else instance.peer(tool, options.peers, options.limit)
            )
            line = json.dumps({**labels, **result})
            print(line, flush=True)
            with log.open("a") as file:
                file.write(line + "\n")


def run_key(labels: dict[str, Any]) -> tuple[Any, ...]:
    """What tells one run from another."""
    return tuple(labels[key] for key in ("kind", "width", "noise", "seed", "gauges", "tool"))


if __name__ == "__main__":
    main()
