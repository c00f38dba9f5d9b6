"""Public packages that match hidden units, on planted instances, each in its own environment."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from .environments import FOLDER, PEERS, create, interpreter

__all__ = ["PEERS", "create", "peer_result", "save_instance"]

HERE = Path(__file__).parent
#: Seconds that a peer may need to import and to write, beyond the limit of its matching.
OVERHEAD = 60.0


def save_instance(
    path: Path,
    architecture: str,
    config: dict[str, Any],
    a: dict[str, Tensor],
    b: dict[str, Tensor],
    *,
    seed: int,
) -> None:
    """Write a planted instance: tensors ``a.NAME`` and ``b.NAME``, the rest as JSON metadata.

    Args:
        path: A safetensors file.
        architecture: Registered name of the field.
        config: Its configuration as plain values (`FieldConfig.as_dict`).
        a: State dict of the field to align to.
        b: State dict of the field to be aligned.
        seed: Seed of whatever a peer draws.
    """
    tensors = {f"a.{name}": tensor.contiguous() for name, tensor in a.items()}
    tensors |= {f"b.{name}": tensor.clone().contiguous() for name, tensor in b.items()}
    header = {"architecture": architecture, "config": config, "seed": seed}
    save_file(tensors, path, {"instance": json.dumps(header)})


def peer_result(
    peer: str,
    instance_path: Path,
    environments_dir: Path = FOLDER,
    limit: float = 600.0,
    *,
    iterations: int = 50,
) -> dict[str, Any]:
    """Align b of an instance to its a by a peer, in a process of its own, on one thread.

    Args:
        peer: Key of `PEERS`.
        instance_path: Written by `save_instance`.
        environments_dir: Holds the environments that `create` made.
        limit: Seconds of the matching alone.
        iterations: Steps of `sinkhorn` at most (50 in its own example); `rebasin` stops by itself.

    Returns:
        ``status``: ``ok``, ``timeout`` or ``error: CLASS: MESSAGE``; ``seconds`` of the matching
        alone; if it went well, ``output_change``, the relative change of b's outputs by its
        alignment, and ``aligned``, a safetensors file of b's aligned state dict (beside the
        instance).

    Raises:
        FileNotFoundError: The peer has no environment there yet; see `create`.
    """
    out = instance_path.with_name(f"{instance_path.stem}.{peer}.json")
    out.unlink(missing_ok=True)
    command = [interpreter(peer, environments_dir), HERE / "run_peer.py", "--peer", peer]
    command += ["--instance", instance_path, "--out", out, "--limit", limit]
    command += ["--iterations", iterations]
    source = str(HERE.parents[1] / "src")
    try:
        subprocess.run(
            [str(part) for part in command],
            env=os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": source},
            timeout=limit + OVERHEAD,
            capture_output=True,
            text=True,
            check=True,
        )
    except subprocess.TimeoutExpired:  # inside compiled code no alarm is heard
        return {"status": "timeout", "seconds": limit}
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or [f"exit status {error.returncode}"])[-1]
        return {"status": f"error: {last}", "seconds": float("nan")}
    return json.loads(out.read_text())
