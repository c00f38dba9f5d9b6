"""``memonf import``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from pydantic import Field as Limits

from ..data import Scene, load_scene
from ..errors import InputError
from ..fields import Field, Record, known
from ..io.checkpoint import save
from ..io.importing import AS_SAID, Look, Net, Reading, Verdict, read_layers, read_net, try_readings
from ..training import BACKGROUND, GIVEN
from ..typing import Seed, Tensor
from ..utils.devices import pick_device
from .options import Common, Finite, NewFile, Switch, parse
from .progress import counting_progress
from .terminal import say
from .train import say_what_was_done

__all__ = ["run"]

#: Readings that are printed, of those that were tried.
SHOWN = 8
EXAMPLES = """\
  memonf import checkpoint199999.ckpt --data lego --out theirs.safetensors
  memonf import 200000.tar --box -1.5 -1.5 -1.5 1.5 1.5 1.5 --near 2 --far 6 \\
                --out theirs.safetensors
  memonf import model_200000.npy --net coarse --data lego --out coarse.safetensors
  memonf import state_dict.pt --layers names.yaml --data lego --out theirs.safetensors\
"""


@dataclass(frozen=True, kw_only=True)
class Import(Common):
    """Take over a NeRF that was trained elsewhere; no code in its file is run.

    Known are krrish94/nerf-pytorch (.ckpt), yenchenlin/nerf-pytorch (.tar), kwea123/nerf_pl (.ckpt)
    and bmild/nerf (.npy), under any key or prefix; other state_dicts and whole modules by a YAML
    file that names the layers. Width, depth and skips are worked out from the params. What a
    checkpoint does not say (box, range, background, cameras) comes from the data set it was trained
    on, or from the flags. With --data some rays of training views are rendered: where the params do
    not make them, other orders of the encoding and other activations are tried, and the one that
    does is taken and named.

    Attributes:
        checkpoint: Checkpoint of PyTorch (.ckpt, .tar, .pt, .pth), .safetensors, .npy or pickle.
        out: Field file to write.
        net: fine or coarse, where the checkpoint has both.
        layers: YAML file that says what the checkpoint does not: names of layers, order of the
            encoding, where the network is (docs/howto/third-party.md).
        uneven_frequencies: Encodings whose frequencies are evenly spaced instead of doubling.
        data: Data set it was trained on: gives box, near, far, background and training cameras.
        group: View group of the data set that it saw.
        front: Horizontal direction (x y) towards the front cameras of the data set.
        box: Lower and upper corner (6 numbers), outside which the field is empty.
        near: Nearest distance that was rendered.
        far: Farthest distance.
        background: Colour behind everything, rgb in [0, 1].
        seed: Accepted by every verb; nothing is drawn at random here.
    """

    checkpoint: Annotated[Path, tyro.conf.Positional]
    out: NewFile
    net: str = "fine"
    layers: Path | None = None
    uneven_frequencies: Switch = False
    data: str | None = None
    group: str = "all"
    front: Annotated[tuple[Finite, Finite] | None, tyro.conf.arg(metavar="X Y")] = None
    box: tuple[float, float, float, float, float, float] | None = None
    near: Annotated[float, Limits(ge=0, le=1e12)] | None = None
    far: Annotated[float, Limits(ge=0, le=1e12)] | None = None
    background: tuple[float, float, float] | None = None
    seed: Seed = 0


def run(args: Sequence[str]) -> None:
    """Run the verb."""
    options = parse(Import, "import", args, EXAMPLES)
    scene, aabb, record = surroundings(options)
    layers = None if options.layers is None else read_layers(options.layers)
    net = read_net(
        options.checkpoint, net=options.net, layers=layers,
        octave_steps=not options.uneven_frequencies,
    )  # fmt: skip
    verdict = None
    if scene is not None:
        say_what_was_done(scene)
        verdict = looked_at(options, scene, net, aabb, record)
        if verdict.background != record.background:
            record = replace(record, background=verdict.background)
            record.training[BACKGROUND] = GIVEN
        net = verdict.net
    field = net.field(aabb).to(pick_device(options.device))
    record.training.update(net=net.kind, state=net.prefix)
    if verdict is not None:
        record.training.update(read_as=verdict.changed, training_rays_psnr=round(verdict.psnr, 1))
    field.record = record
    if record.cameras is not None:
        field.record = replace(record, knowledge=known(field))
    save(field, options.out)
    for note in notes_on(options, net, verdict):
        say(f"{options.checkpoint.name}: {note}", error=True)
    if options.json:
        say(json.dumps(outcome(options, field, net, verdict)))
    else:
        for line in in_words(options, field, net, verdict):
            say(line)


def looked_at(options: Import, scene: Scene, net: Net, aabb: Tensor, record: Record) -> Verdict:
    """The reading of the params that makes training views of the data set."""
    look = Look.at(scene.views("train", options.group), aabb, record.near, record.far)
    with counting_progress("readings of the params", show=not options.quiet) as count:
        tried = 0

        def on_reading(_: Reading) -> None:
            nonlocal tried
            tried += 1
            count(tried, 0)

        return try_readings(
            net, look, record.background, other_backgrounds=options.background is None,
            on_reading=on_reading,
        )  # fmt: skip


def notes_on(options: Import, net: Net, verdict: Verdict | None) -> list[str]:
    """What was chosen or could not be checked, a sentence each."""
    notes = list(net.notes)
    if verdict is None:
        return [*notes, (
            "nothing says whether the params are read rightly (order of the encoding, activations);"
            " --data with the data set it was trained on checks it"
        )]  # fmt: skip
    if not verdict.fits:
        return [*notes, (
            f"WARNING: no reading of the params makes the training views of {options.data}: "
            f"{verdict.psnr:.1f} dB on {verdict.rays} rays as said, one colour everywhere has "
            f"{verdict.baseline:.1f} dB. Is it the data set the net was trained on, in the same "
            "scale and axes? Do --box, --near, --far and --background fit, and the YAML file of "
            "--layers?"
        )]  # fmt: skip
    if verdict.changed:
        notes.append(
            "was read otherwise than said, since that makes the training views: "
            f"`{verdict.changed}` (as a YAML file, --layers, says it)"
        )
    return notes


def surroundings(options: Import) -> tuple[Scene | None, Tensor, Record]:
    """Data set, where one is named; box and record of it; flags win."""
    scene: Scene | None = None
    near, far, background, cameras = options.near, options.far, options.background, None
    aabb, scene_name = None, ""
    if options.data is not None:
        scene = load_scene(options.data, front=options.front, place="keep")
        cameras, scene_name, aabb = (
            scene.views("train", options.group).cameras,
            scene.name,
            scene.aabb,
        )
        near, far = scene.near if near is None else near, scene.far if far is None else far
        background = background or scene.background
    if options.box is not None:
        aabb = torch.tensor(options.box).reshape(2, 3)
    if aabb is None or near is None or far is None:
        raise InputError(
            "a checkpoint does not say where its scene lies: give --data, or --box, --near, --far"
        )
    if not (aabb.isfinite().all() and (aabb[0] < aabb[1]).all()):
        raise InputError(f"--box: expected lower corner < upper corner, received {aabb.tolist()}")
    if not 0 <= near < far:
        raise InputError(f"--near, --far: expected 0 <= near < far, received {near} and {far}")
    background = background or (1.0, 1.0, 1.0)
    if not all(0 <= value <= 1 for value in background):
        raise InputError(f"--background: expected numbers in [0, 1], received {background}")
    training: dict[str, Any] = {"imported_from": options.checkpoint.name}
    if options.background is not None:
        training[BACKGROUND] = GIVEN
    return scene, aabb, Record(
        near=float(near), far=float(far), background=background, cameras=cameras,
        group=options.group, scene=scene_name, training=training,
    )  # fmt: skip


def outcome(options: Import, field: Field, net: Net, verdict: Verdict | None) -> dict[str, object]:
    """What was taken over, as plain values."""
    result: dict[str, object] = {
        "out": str(options.out), "architecture": field.name, "config": field.config.as_dict(),
        "parameters": field.parameter_count(), "net": net.kind, "state": net.prefix,
        "notes": notes_on(options, net, verdict),
    }  # fmt: skip
    if verdict is not None:
        result |= {
            "fits": verdict.fits, "psnr": verdict.psnr, "baseline": verdict.baseline,
            "read_as": verdict.changed, "background": list(verdict.background),
            "tried": [{"reading": entry.words, "psnr": entry.psnr} for entry in verdict.tried],
        }  # fmt: skip
    return result


def in_words(options: Import, field: Field, net: Net, verdict: Verdict | None) -> list[str]:
    """What was taken over, what was tried, and what to do next; a line each."""
    config = field.config.as_dict()
    which = {"fine": "fine net", "coarse": "coarse net", "only": "the net"}[net.kind]
    said = (
        f"{options.out}: {which} of {options.checkpoint.name}, {config['depth']} layers "
        f"of {config['width']}, {config['frequencies']} octaves, {field.parameter_count()} params"
    )
    follow = f"memonf eval {options.out} --data {options.data}" if options.data else (
        f"memonf render {options.out} --turntable --out turntable.gif")  # fmt: skip
    follow = f"look at it with `{follow}`"
    if verdict is None:
        return [f"{said}; {follow}"]
    best = verdict.tried[0].words
    if (verdict.changed or AS_SAID) == AS_SAID == best:
        return [
            f"{said}; {verdict.psnr:.1f} dB on {verdict.rays} rays of training views, better than "
            f"{len(verdict.tried) - 1} other readings; {follow}"
        ]
    return [f"{said}; {follow}", *table(verdict)]


def table(verdict: Verdict) -> list[str]:
    """The readings that were tried, the best first."""
    first, rest = verdict.tried[:SHOWN], verdict.tried[SHOWN:]
    lines = [f"  {entry.psnr:5.1f} dB  {entry.words}" for entry in first]
    lines += [f"  {entry.psnr:5.1f} dB  {entry.words}" for entry in rest if entry.words == AS_SAID]
    if rest:
        lines.append(f"  {len(rest)} others below {rest[0].psnr + 0.05:.1f} dB")
    return ["  readings that were tried, PSNR on rays of training views:", *lines]
