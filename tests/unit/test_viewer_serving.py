"""The viewer's server: quiet, closed to the outside; pictures while everything moves; trainings."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import descendant, knowing_pair, small_field

import memonf
from memonf.cameras.cameras import turntable
from memonf.errors import InputError
from memonf.fields.tiny_nerf import TinyNerfConfig
from memonf.io.checkpoint import content_hash
from memonf.merging import METHODS
from memonf.training import new_trainer
from memonf.training.resume import train_to_file
from memonf.viewer.contents import Contents
from memonf.viewer.looks import Look
from memonf.viewer.painter import Gallery, Painter, Picture, Wanted, camera_of
from memonf.viewer.panel import Page
from memonf.viewer.poses import viewer_pose

pytest.importorskip("viser", reason="needs memonf[viewer]")

from memonf.viewer import LiveView, close_page, open_page

#: Seconds after which something that should come has not come.
PATIENCE = 60.0


def wish(share: float = 0.5, name: str = "average", **changes) -> Wanted:
    """The scene from its front."""
    camera = turntable(1, 16, 4.0, torch.zeros(3), elevation=20.0, field_of_view=40.0)
    wxyz, position = viewer_pose(camera.camera_to_world[0])
    return Wanted(
        (name,), share=share, wxyz=tuple(wxyz), position=tuple(position),
        field_of_view=np.radians(40.0), **changes,
    )  # fmt: skip


def pair() -> dict:
    return dict(zip(("front", "rear"), knowing_pair(), strict=True))


def test_a_slider_that_never_rests_still_gets_pictures() -> None:
    """Wishes come faster than pictures are painted: each picture is finished, none is good."""
    pictures: list[Picture] = []
    painter = Painter(Gallery(Contents(pair())), pictures.append, print, size=40)
    painter.start()
    end = time.monotonic() + PATIENCE
    number = 0
    while len(pictures) < 3 and time.monotonic() < end:
        number += 1
        painter.ask(wish(share=(number % 100) / 100))
        time.sleep(0.005)
    painter.stop()
    painter.join(PATIENCE)
    assert len(pictures) >= 3
    assert not any(picture.done for picture in pictures)
    assert number > len(pictures)  # what was wanted in between is passed over


def test_good_pictures_are_given_up_for_a_newer_wish() -> None:
    painter = Painter(Gallery(Contents(pair())), print, print, size=200)
    pictures = painter.paint(wish())
    assert not next(pictures).done
    painter.ask(wish(share=0.7))
    assert list(pictures) == []
    look = painter.gallery.look("front", 0.5, "rgb")  # also one that is begun already
    assert painter.seen(camera_of(wish(), 200), [look.in_motion()]) is None


def test_large_pictures_come_by_way_of_one_in_between() -> None:
    painter = Painter(Gallery(Contents(pair())), print, print, size=328)
    painted = list(painter.paint(wish(name="front")))
    assert [picture.pixels.shape[0] for picture in painted] == [128, 164, 328]
    assert [picture.done for picture in painted] == [False, False, True]


def test_pictures_in_motion_are_rough_until_the_close_bake_is_ready() -> None:
    look = Look(small_field("tiny_nerf"), "rgb", [])
    assert look.in_motion().grid.resolution == 64
    assert not look.is_ready("close")
    look.prepare("close")
    assert look.in_motion().grid.resolution == 128


def test_a_file_called_like_a_method_is_told_apart_from_it() -> None:
    """A list that held a name twice would leave the page blank."""
    merged = small_field("tiny_nerf", 5)
    contents = Contents(pair(), {"average": merged})
    assert len(set(contents.names)) == len(contents.names)
    assert contents.field("average (file)") is merged
    assert content_hash(contents.field("average")) != content_hash(merged)


def test_all_methods_of_weight_space_are_offered_those_of_one_ancestor_where_there_is_one() -> None:
    ancestral = {name for name in METHODS if METHODS[name].needs_ancestor}
    ours = {name for name in METHODS if METHODS[name].listed and not METHODS[name].function_space}
    assert set(Contents(pair()).methods) == ours - ancestral
    related = {name: descendant("tiny_nerf", seed) for seed, name in enumerate("ab")}
    contents = Contents(related)
    assert set(contents.methods) == ours
    assert contents.field("ties", 0.3).name == "tiny_nerf"


def test_pages_are_on_this_machine_alone_and_cannot_be_shared_outside(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def tunnel(*args: object, **kwargs: object) -> None:
        raise AssertionError("a tunnel to the outside was asked for")

    monkeypatch.setattr("viser._viser.ViserTunnel", tunnel)
    panel, address = open_page(Contents(pair()), host="127.0.0.1", port=None, size=64)
    assert panel.server.get_host() == "127.0.0.1"
    assert address.startswith("http://localhost:")
    assert panel.server.request_share_url() is None
    close_page(panel)
    assert capsys.readouterr().out == ""


def test_closing_waits_for_what_is_being_painted() -> None:
    panel, _ = open_page(Contents(pair()), host="127.0.0.1", port=None, size=400)
    pictures: list[Picture] = []

    def slowly(picture: Picture) -> None:
        pictures.append(picture)
        time.sleep(0.5)

    painter = Painter(panel.gallery, slowly, print, size=400)
    panel.pages[0] = Page(painter)
    painter.start()
    painter.ask(wish(name="front"))
    end = time.monotonic() + PATIENCE
    while not pictures and time.monotonic() < end:
        time.sleep(0.01)
    close_page(panel)
    assert not painter.is_alive()
    assert not any(
        thread.name.startswith("workshop")
        for thread in panel.gallery.workshop._threads
        if thread.is_alive()
    )


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_out_of_range_is_refused(port: int) -> None:
    with pytest.raises(InputError, match=f"--port: expected 1 to 65535, received {port}"):
        open_page(Contents(pair()), host="127.0.0.1", port=port, size=64)


def test_the_verb_prints_json_alone_and_ends_on_ctrl_c(tmp_path: Path) -> None:
    memonf.save(knowing_pair()[0], tmp_path / "front.safetensors")
    command = [sys.executable, "-m", "memonf", "view", "front.safetensors", "--json"]
    running = subprocess.Popen(
        command, cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        # A test run in the background of a shell ignores Ctrl-C, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    killer = threading.Timer(PATIENCE, running.kill)
    killer.start()
    assert running.stdout is not None
    said = json.loads(running.stdout.readline())
    running.send_signal(signal.SIGINT)
    out, err = running.communicate()
    killer.cancel()
    assert said["shown"] == ["front"]
    assert out == ""
    assert err == "memonf: interrupted\n"
    assert running.returncode == 130


def test_a_training_that_is_watched_ends_in_the_same_bytes(tmp_path: Path, robot) -> None:
    """Pictures are painted of it all the while, and it is paused once."""

    def trainer():
        return new_trainer(
            robot, group="front", config=TinyNerfConfig(width=8, depth=2, frequencies=2),
            settings=memonf.TrainSettings(steps=12, rays=64, grid=16),
        )  # fmt: skip

    unwatched = content_hash(train_to_file(trainer(), tmp_path / "a.safetensors"))
    watched = trainer()
    live = LiveView(watched)
    pictures: list[Picture] = []
    painter = Painter(live.panel.gallery, pictures.append, print, size=40)
    painter.start()
    stamps: list[str] = []

    def on_step(progress) -> None:
        live._looked = 0.0  # do not wait for the next look
        live(progress)
        stamps.append(content_hash(live.contents.field("field")))
        painter.ask(wish(name="field"))
        if progress.step == 6:
            assert not live.panel.gallery.settled
            live.pause_or_go_on()
            assert live.panel.gallery.settled
            threading.Timer(0.3, live.pause_or_go_on).start()

    field = train_to_file(watched, tmp_path / "b.safetensors", on_step=on_step, paused=live.paused)
    end = time.monotonic() + PATIENCE
    while not (pictures and pictures[-1].done) and time.monotonic() < end:
        time.sleep(0.01)
    painter.stop()
    painter.join(PATIENCE)
    live.close()
    assert content_hash(field) == unwatched
    assert len(set(stamps)) == 12  # each look is at the field of that step
    assert stamps[-1] == content_hash(field)
    assert "step 12, 100 %" in live._text.content
    assert pictures[-1].done  # at its end the field gets a good picture
