"""Run one peer on one planted instance; to be run by the Python of the peer's environment.

python bench/peers/run_peer.py --peer PEER --instance FILE.safetensors --out FILE.json

Writes how it went to FILE.json, and the aligned params to FILE.safetensors if it went well.
`peers.peer_result` calls this; `peers.save_instance` says what an instance is.
"""

from __future__ import annotations

import argparse
import copy
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rebasin
import torch
from networks import Network
from safetensors import safe_open
from safetensors.torch import save_file

#: Points that the peers trace the networks with.
POINTS = 64
#: As in the package's own example of aligning two networks.
SINKHORN_RATE = 0.1


def run_rebasin(a: Network, b: Network, inputs: torch.Tensor, iterations: int) -> Network:
    """Weight matching by coordinate descent, package `rebasin`; it stops by itself.

    The package leaves the running statistics of batch norm alone: they are to be measured anew.
    """
    rebasin.PermutationCoordinateDescent(a, b, inputs).rebasin()
    return b


def run_sinkhorn(a: Network, b: Network, inputs: torch.Tensor, iterations: int) -> Network:
    """Descent on soft permutations, package `sinkhorn-rebasin`: the best hard ones on the way.

    As in the package's example, which keeps the last ones, it stops once b has become a.
    """
    from rebasin.loss import DistL2Loss  # the other package of that name has none

    aligner, criterion = rebasin.RebasinNet(b, tuple(inputs.shape)), DistL2Loss(a)
    aligner.identity_init()
    optimizer = torch.optim.AdamW(aligner.p.parameters(), lr=SINKHORN_RATE)
    best, least = b, float("inf")
    for _ in range(iterations):
        aligner.train()
        loss = criterion(aligner())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        aligner.eval()
        distance = float(criterion(aligner()))
        if distance < least:
            best, least = copy.deepcopy(aligner()), distance
        if distance == 0:
            break
    return best


RUNNERS: dict[str, Callable[[Network, Network, torch.Tensor, int], Network]] = {
    "rebasin": run_rebasin,
    "sinkhorn": run_sinkhorn,
}


def read_instance(path: Path) -> tuple[Network, Network, int]:
    """Both networks of an instance, and its seed."""
    with safe_open(path, framework="pt") as archive:
        header = json.loads(archive.metadata()["instance"])
        tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
    networks = []
    for side in ("a.", "b."):
        params = {n.removeprefix(side): t for n, t in tensors.items() if n.startswith(side)}
        networks.append(Network(header["architecture"], header["config"]).load(params))
    return networks[0], networks[1], header["seed"]


def run(peer: str, instance: Path, aligned: Path, limit: float, iterations: int) -> dict[str, Any]:
    """Align b of an instance to its a.

    Returns:
        ``status`` (ok, timeout, or error with its class and message), ``seconds`` of the matching
        alone, ``aligned`` (the file) and ``output_change`` (of b by its alignment, relative; a
        symmetry changes nothing but the last digits) if it went well.
    """
    a, b, seed = read_instance(instance)
    torch.manual_seed(seed)
    inputs = torch.rand(POINTS, sum(a.widths)) * 2 - 1
    with torch.no_grad():
        before = b(inputs)
    signal.signal(signal.SIGALRM, stop)
    # Again every second: an alarm that a callback from compiled code hears is lost.
    signal.setitimer(signal.ITIMER_REAL, limit, 1.0)
    start = time.perf_counter()
    try:
        result = RUNNERS[peer](a, b, inputs, iterations)
        status = "ok"
    except TimeoutError:
        status = "timeout"
    except Exception as error:
        status = f"error: {type(error).__name__}: {error}"
    outcome: dict[str, Any] = {"status": status, "seconds": time.perf_counter() - start}
    signal.setitimer(signal.ITIMER_REAL, 0)
    if status == "ok":
        with torch.no_grad():
            outcome["output_change"] = float((result(inputs) - before).norm() / before.norm())
        params = result.field.state_dict()
        save_file({name: tensor.contiguous() for name, tensor in params.items()}, aligned)
        outcome["aligned"] = str(aligned)
    return outcome


def stop(*_: object) -> None:
    """The alarm of the time limit."""
    raise TimeoutError


def main() -> None:
    """Parse the command line, run, write the outcome."""
    parser = argparse.ArgumentParser(description="one peer on one planted instance")
    parser.add_argument("--peer", required=True, choices=list(RUNNERS))
    parser.add_argument("--instance", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=float, default=600.0, help="seconds of the matching")
    parser.add_argument("--iterations", type=int, default=50, help="of sinkhorn")
    options = parser.parse_args()
    aligned = options.out.with_suffix(".safetensors")
    outcome = run(options.peer, options.instance, aligned, options.limit, options.iterations)
    options.out.write_text(json.dumps(outcome, indent=1))


if __name__ == "__main__":
    main()
