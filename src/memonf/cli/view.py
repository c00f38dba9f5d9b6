"""``memonf view``."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field as Limits

from ..errors import InputError
from ..fields import Field
from ..io.checkpoint import load
from ..typing import Seed
from ..utils.devices import pick_device
from .options import Common, parse
from .terminal import say

__all__ = ["run"]

EXAMPLES = """\
  memonf view front.safetensors rear.safetensors
  memonf view front.safetensors rear.safetensors merged.safetensors
  memonf view a.safetensors b.safetensors c.safetensors --port 8090\
"""


@dataclass(frozen=True, kw_only=True)
class View(Common):
    """Turn fields and their merges around on a page in the browser.

    Fields that were merged, as their files say, are shown beside the others; those that were
    trained are parents, and are merged on the page by any method of weight space.

    Attributes:
        fields: Field files.
        host: Address to serve the page on; others than this machine see it only if told so.
        port: Port; the first free one from 8080 if left out.
        size: Height of pictures once the camera stands still, pixels.
        seed: Accepted by every verb; nothing is drawn at random here.
    """

    fields: Annotated[tuple[Path, ...], tyro.conf.Positional]
    host: str = "127.0.0.1"
    port: Annotated[int, Limits(ge=1, le=65535)] | None = None
    size: Annotated[int, Limits(ge=16, le=4096)] = 400
    seed: Seed = 0


def run(args: Sequence[str]) -> None:
    """Run the verb."""
    options = parse(View, "view", args, EXAMPLES)
    if not options.fields:
        raise InputError("expected one field file or more, received none")
    from ..viewer import Contents, close_page, open_page  # heavy

    device = pick_device(options.device)
    fields: dict[str, Field] = {}
    for number, path in enumerate(options.fields, 1):
        name = path.stem if path.stem not in fields else f"{number} {path.stem}"
        fields[name] = load(path, device)
    merged = {name: field for name, field in fields.items() if field.record.lineage}
    parents = {name: field for name, field in fields.items() if name not in merged}
    contents = Contents(parents or merged, merged if parents else {})
    panel, address = open_page(contents, host=options.host, port=options.port, size=options.size)
    try:
        say(
            json.dumps({"address": address, "shown": list(contents.names)})
            if options.json
            else f"Open {address} in a browser; Ctrl-C ends it.",
            flush=True,
        )
        threading.Event().wait()
    finally:
        close_page(panel)
