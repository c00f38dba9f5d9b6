"""Virtual environments of the peers, one each: both packages install a module called `rebasin`.

python bench/peers/environments.py [--folder out/peers]

Needs a package index. What stands already is left as it is.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv
from pathlib import Path

#: Peer -> its package. A range for torch would fetch a CUDA build of several GB.
PEERS = {"rebasin": "rebasin==0.0.47", "sinkhorn": "sinkhorn-rebasin==0.0.2"}
TORCH = "torch==2.13.0"
#: What `memonf.fields` imports, so that the peers see the very networks that memonf merges.
FIELD_PACKAGES = ("jaxtyping", "pydantic", "safetensors")
CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
FOLDER = Path("out/peers")


def interpreter(peer: str, folder: Path = FOLDER) -> Path:
    """Python of a peer's environment, whether it exists or not."""
    return folder / peer / "bin" / "python"


def create(peer: str, folder: Path = FOLDER) -> Path:
    """Create a peer's environment unless it is complete.

    Args:
        peer: Key of `PEERS`.
        folder: Holds one environment for each peer.

    Returns:
        Its Python.

    Raises:
        subprocess.CalledProcessError: The packages cannot be installed.
    """
    packages = [TORCH, PEERS[peer], *FIELD_PACKAGES]
    python, stamp = interpreter(peer, folder), folder / peer / "installed"
    if stamp.exists() and stamp.read_text() == "\n".join(packages):
        return python
    venv.create(folder / peer, with_pip=True, clear=True)
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    # The constraints hold torch fast when torchvision, which one peer wants, is chosen.
    for names in ([TORCH], packages):
        subprocess.run([*pip, "-c", str(CONSTRAINTS), *names], check=True)
    stamp.write_text("\n".join(packages))
    return python


def main() -> None:
    """Parse the command line, create what is missing, print the interpreters."""
    parser = argparse.ArgumentParser(description="virtual environments of the peers")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    folder = parser.parse_args().folder
    for peer in PEERS:
        sys.stdout.write(f"{peer}: {create(peer, folder)}\n")


if __name__ == "__main__":
    main()
