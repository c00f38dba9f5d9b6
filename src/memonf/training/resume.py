"""Training into a file, so that an interruption loses nothing.

Beside ``front.safetensors`` stands ``front.training``, renewed while the training runs and removed
at its end: the trainer's tensors (safetensors) and the settings of the run. Resumed by steps, a
training ends in the same bytes as an uninterrupted one. Whatever advances by steps can be trained
so: fields of radiance, and those beyond.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from safetensors import SafetensorError, safe_open

from ..errors import InputError
from ..fields import Field
from ..io.checkpoint import save
from ..typing import PathLike, Tensor
from ..utils.files import check_writable, destination, write_tensors
from ..utils.interrupts import deferred, finishing
from . import INITIAL_PARAMS

__all__ = ["Steps", "check_outputs", "state_path", "train_to_file"]

#: Seconds between two renewals of the state file.
INTERVAL = 15.0
#: Settings that states of earlier versions lack.
ADDED_LATER = (INITIAL_PARAMS, "background_rgb")
#: Seconds between two questions whether a training is still paused.
PAUSE = 0.05


Progress = TypeVar("Progress", covariant=True)


class Steps(Protocol[Progress]):
    """A training that advances step by step, with a state between any two."""

    #: Asked within long steps; a step that is to stop leaves all as it was before it and raises
    #: `KeyboardInterrupt`.
    stop: Callable[[], bool]

    @property
    def field(self) -> Field:
        """What is trained; its record holds the settings of the run."""

    @property
    def done(self) -> bool:
        """Whether the training is at its end."""

    def step(self) -> Progress:
        """Advance; what is known afterwards."""

    def finished(self) -> Field:
        """The trained field, its record completed."""

    def state(self) -> dict[str, Tensor]:
        """All that the next step depends on."""

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Continue from a state."""


def state_path(out: PathLike) -> Path:
    """Where the state of the training of `out` stands while it runs."""
    return Path(out).with_suffix(".training")


def check_outputs(out: PathLike) -> None:
    """Find out before long work whether the field file and the state beside it can be written.

    Raises:
        InputError: `out` has the name of the state.
        OutputError: One of them cannot be written.
    """
    check_writable(out)
    if state_path(out) == Path(out):
        raise InputError(
            f"--out {out}: names that end in {state_path(out).suffix} are those of unfinished "
            "trainings; name a .safetensors"
        )
    check_writable(state_path(out))


def train_to_file(
    trainer: Steps[Progress],
    out: PathLike,
    *,
    resume: bool = False,
    on_step: Callable[[Progress], None] | None = None,
    paused: Callable[[], bool] = lambda: False,
) -> Field:
    """Train to the end and write the field file; keep the state in case of an interruption.

    Args:
        trainer: A fresh trainer.
        out: Field file to write.
        resume: Continue from the state beside `out`, if there is one.
        on_step: Called after each step.
        paused: Asked after each step, and again and again while it says so before the next.

    Raises:
        InputError: The state beside `out` is of a run with other settings.
        OutputError: `out` cannot be written.
    """
    check_outputs(out)
    state = state_path(out)
    if resume and state.exists():
        restore_state(trainer, state)
    saved = time.monotonic()
    with deferred() as interrupted:
        trainer.stop = lambda: bool(interrupted)
        while not trainer.done:
            try:
                progress = trainer.step()
            except KeyboardInterrupt:
                if not interrupted:
                    raise
            else:
                if on_step is not None:
                    on_step(progress)
            while paused() and not interrupted:
                time.sleep(PAUSE)
            if interrupted or time.monotonic() - saved > INTERVAL:
                with finishing():
                    save_state(trainer, state)
                saved = time.monotonic()
            if interrupted:
                raise KeyboardInterrupt
    field = trainer.finished()
    save(field, out)
    destination(state).unlink(missing_ok=True)
    return field


def run_settings(trainer: Steps[Any]) -> dict[str, Any]:
    """What must be equal for a state to be continued."""
    field = trainer.field
    return {
        "scene": field.record.scene,
        "group": field.record.group,
        "architecture": field.name,
        "config": field.config.as_dict(),
        "background_rgb": list(field.record.background),
        **field.record.training,
    }


def save_state(trainer: Steps[Any], path: Path) -> None:
    """Write the state file whole or not at all."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in trainer.state().items()}
    settings = json.dumps(run_settings(trainer), sort_keys=True)
    write_tensors(path, tensors, {"memonf.training": settings})


def restore_state(trainer: Steps[Any], path: Path) -> None:
    """Bring a fresh trainer to where the state file left off."""
    try:
        with safe_open(path, framework="pt", device="cpu") as archive:
            saved = json.loads((archive.metadata() or {}).get("memonf.training", "{}"))
            tensors = {name: archive.get_tensor(name) for name in list(archive.keys())}
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); remove it to train from the start"
        ) from None
    # What a run began with was not always recorded.
    ours = json.loads(json.dumps(run_settings(trainer)))
    for key, value in ours.items():
        if saved.get(key) != value and not (key in ADDED_LATER and key not in saved):
            raise InputError(
                f"{path}: begun with `{key}` = {saved.get(key)!r}, now it is {value!r}; repeat "
                "the settings of the first call, or leave --resume out to start anew"
            )
    trainer.restore(tensors)
