"""``memonf train``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field as Limits

from ..data import Scene
from ..training import DEFAULT_FIELD, Trainer, TrainSettings, new_trainer
from ..training.loggers import (
    JsonLines,
    TensorBoard,
    Tracker,
    check_tensorboard,
    log_path,
    together,
    tracked,
)
from ..training.resume import check_outputs, train_to_file
from ..utils.devices import pick_device
from ..utils.files import check_writable
from .data_options import FromData, radiance_field
from .options import (
    NewFile,
    ResultsFolder,
    Switch,
    flag_value,
    flags_given,
    parse,
    with_settings,
)
from .progress import resumable, training_progress
from .terminal import say

if TYPE_CHECKING:
    from ..viewer import LiveView

__all__ = ["run"]

EXAMPLES = """\
  memonf train --data embedded:robot --group front --seed 1 --out front.safetensors
  memonf train --data lego --group rear --field nerf --seconds 300 --out rear.safetensors
  memonf train --data lego --group "sector 2/5" --batch-norm --steps 2000 --out two.safetensors
  memonf train --data lego --group front --start both.safetensors --out front.safetensors
  memonf train ... --resume --out front.safetensors      # after an interruption\
"""


@dataclass(frozen=True, kw_only=True)
class Train(FromData):
    """Train a field on the views of one group and write a field file.

    Attributes:
        out: Field file to write.
        group: all, front, rear, left, right, or "sector K/N".
        overlap: Degrees of azimuth that neighbouring groups share.
        field: Architecture: tiny_nerf or siren (position only), nerf (position and direction).
        start: Field file from whose params to train on; architecture and configuration are its own.
        resume: Continue an interrupted training of the same --out.
        log: Write the training's figures beside --out, NAME.log.jsonl, one JSON object a line.
        tensorboard: Folder for TensorBoard's events: figures and pictures of a training view.
        viewer: Show the field on a page in the browser as it learns; needs memonf[viewer].
    """

    out: NewFile
    group: str = "all"
    overlap: Annotated[float, Limits(ge=0, le=180)] = 0.0
    field: str = DEFAULT_FIELD
    start: Path | None = None
    resume: Switch = False
    log: bool = True
    tensorboard: ResultsFolder | None = None
    viewer: Switch = False


def run(args: Sequence[str]) -> None:
    """Run the verb."""
    config = radiance_field(flag_value(args, "--field", DEFAULT_FIELD)).Config
    options = parse(
        with_settings(Train, settings=TrainSettings, config=config), "train", args, EXAMPLES
    )
    check_outputs(options.out)
    if options.log:
        check_writable(log_path(options.out))
    if options.tensorboard is not None:
        check_tensorboard()
    chosen_config = options.config  # type: ignore[attr-defined]
    chosen_field: str | None = options.field
    if options.start is not None:  # what was not asked for follows the start
        asked = flags_given(args) & {entry.name for entry in dataclasses.fields(config)}
        chosen_config = chosen_config if asked else None
        chosen_field = flag_value(args, "--field", "") or None
    scene = options.scene()
    if not options.quiet:
        say_what_was_done(scene)
    trainer = new_trainer(
        scene,
        group=options.group,
        overlap=options.overlap,
        field=chosen_field,
        config=chosen_config,
        settings=options.settings,  # type: ignore[attr-defined]
        start=options.start,
        device=pick_device(options.device),
    )
    live = opened_view(trainer) if options.viewer else None
    with (
        tracked(*trackers(options, trainer), *([live] if live else [])) as track,
        training_progress(f"train {options.group}", show=not options.quiet) as show,
        resumable(options.out),
    ):
        field = train_to_file(
            trainer, options.out, resume=options.resume, on_step=together(show, track),
            paused=live.paused if live else never,
        )  # fmt: skip
    outcome = {"out": str(options.out), "parameters": field.parameter_count(),
               **field.record.training, "seconds_done": round(trainer.seconds, 3)}  # fmt: skip
    if options.json:
        say(json.dumps(outcome))
    else:
        say(
            f"{options.out}: {field.name}, {field.parameter_count()} params, "
            f"{outcome['steps_done']} steps in {outcome['seconds_done']:.0f} s; "
            f"score it with `memonf eval {options.out} --data {options.data}`"
        )


def say_what_was_done(scene: Scene) -> None:
    """Tell what a capture's reader found, left out and chose."""
    for note in scene.notes:
        say(f"{scene.name}: {note}", error=True)


def never() -> bool:
    """Nobody pauses a training that nobody looks at."""
    return False


def opened_view(trainer: Trainer) -> LiveView:
    """A page that follows the training."""
    from ..viewer import LiveView  # heavy: only when asked for

    live = LiveView(trainer)
    say(f"Open {live.address} in a browser to see the field learn.", error=True)
    return live


def trackers(options: Train, trainer: Trainer) -> list[Tracker]:
    """What follows the training, as asked for."""
    chosen: list[Tracker] = []
    if options.log:
        chosen.append(JsonLines(log_path(options.out), trainer))
    if options.tensorboard is not None:
        chosen.append(TensorBoard(options.tensorboard, trainer))
    return chosen
