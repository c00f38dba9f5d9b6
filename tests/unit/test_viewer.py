"""The viewer without a browser: cameras, contents, looks, the painter, following a training."""

from __future__ import annotations

import dataclasses
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import BOX, knowing_pair, small_field

from memonf import merge
from memonf.cameras.cameras import look_at, turntable
from memonf.cameras.keyframes import CameraPath
from memonf.errors import DataError, InputError
from memonf.io.checkpoint import content_hash
from memonf.rendering.occupancy_grid import OccupancyGrid
from memonf.rendering.volume_rendering import Renderer, Rendering
from memonf.viewer.contents import Contents
from memonf.viewer.looks import MODES, Look, to_picture
from memonf.viewer.painter import MOVING, Gallery, Painter, Picture, Wanted
from memonf.viewer.poses import camera_seen, viewer_pose
from memonf.visualization.disagreement import SCALE, UNCHECKED, DisagreementColours


def pair() -> dict:
    return dict(zip(("front", "rear"), knowing_pair(), strict=True))


def wanted(**changes) -> Wanted:
    camera = turntable(1, 16, 4.0, torch.zeros(3), elevation=20.0, field_of_view=40.0)
    wxyz, position = viewer_pose(camera.camera_to_world[0])
    basis = Wanted(
        ("front",), wxyz=tuple(wxyz), position=tuple(position), field_of_view=np.radians(40.0)
    )
    return dataclasses.replace(basis, **changes)


def test_the_viewers_camera_looks_along_plus_z_with_y_down() -> None:
    """Unturned, it looks along +z of the world: ours has its back to -z and up at -y."""
    camera = camera_seen((1, 0, 0, 0), (0, 0, 0), np.pi / 2, 4, 2)
    right, up, back = camera.camera_to_world[0, :, :3].T
    assert right.tolist() == [1, 0, 0]
    assert up.tolist() == [0, -1, 0]
    assert back.tolist() == [0, 0, -1]
    assert camera.intrinsics[0].tolist() == pytest.approx([1, 1, 2, 1])


def test_cameras_come_back_from_the_viewer_as_they_went() -> None:
    poses = look_at(torch.tensor([[3.0, -2.0, 1.0], [0.5, 4.0, -1.0]]), torch.zeros(3))
    for pose in poses:
        wxyz, position = viewer_pose(pose)
        back = camera_seen(wxyz, position, 0.7, 8, 8).camera_to_world[0]
        torch.testing.assert_close(back, pose[:3].float(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_slider_shows_what_a_merge_of_that_coefficient_is(share: float) -> None:
    parents = pair()
    contents = Contents(parents)
    for method in ("average", "weight_matching_repair"):
        assert method in contents.methods
        contents.field(method, 0.9)  # what is kept must not leak into the next
        shown = contents.field(method, share)
        alone = merge(list(parents.values()), method, coefficients=[1 - share, share], force=True)
        assert content_hash(shown) == content_hash(alone.field)


def test_parents_that_cannot_be_averaged_are_looked_at_all_the_same() -> None:
    unlike = {"a": small_field("tiny_nerf"), "b": small_field("siren")}
    contents = Contents(unlike)
    assert contents.names == ("a", "b")
    assert "siren" in contents.why_none
    assert Contents({"a": unlike["a"]}).why_none == "a merge takes two parents or more"
    with pytest.raises(InputError, match=r"nothing called `c` is open; there are a, b"):
        contents.field("c")


def test_three_parents_share_what_the_first_leaves() -> None:
    three = {name: small_field("tiny_nerf", seed) for seed, name in enumerate("abc")}
    assert Contents(three).coefficients(0.5) == [0.5, 0.25, 0.25]


def test_a_cropped_grid_is_empty_outside_and_the_same_inside() -> None:
    grid = OccupancyGrid(BOX, 8)
    part = grid.within((0.5, 0.0, 0.0), (1.0, 1.0, 0.25))
    kept = part.density.view(8, 8, 8)
    assert bool((kept[4:, :, :2] == grid.density[0]).all())
    assert int((kept > 0).sum()) == 4 * 8 * 2
    torch.testing.assert_close(part.bounds(), torch.tensor([[0.0, -1, -1], [1, 1, -0.5]]))


def test_every_mode_gives_a_picture_of_its_own() -> None:
    parents = pair()
    camera = turntable(1, 24, 4.0, torch.zeros(3), elevation=20.0, field_of_view=40.0)
    seen = {}
    for mode in MODES:
        look = Look(parents["front"], mode, list(parents.values()))
        for renderer in (look.in_motion(), look.still()):
            picture = to_picture(renderer.view(camera, 0), mode, (3.0, 5.0))
            assert picture.shape == (24, 24, 3)
        seen[mode] = picture
    assert len({picture.tobytes() for picture in seen.values()}) == len(MODES)


def test_near_is_bright_and_nothing_is_white() -> None:
    seen = Rendering(
        torch.zeros(1, 3, 3), torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([[3.0, 5.0, 0.0]])
    )
    near, far, nothing = to_picture(seen, "depth", (3.0, 5.0))[0].astype(int)
    assert near.sum() > far.sum()
    assert nothing.tolist() == [255, 255, 255]


def test_parents_disagree_where_both_saw_and_say_different_things() -> None:
    one, other = knowing_pair()
    same = DisagreementColours(one, [one, one])
    positions = torch.rand(200, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    _, rgb = same(positions, positions)
    seen = one.record.knowledge.views_at(positions) > 0
    assert bool(seen.any())
    torch.testing.assert_close(rgb[seen], torch.tensor(SCALE[0]).expand_as(rgb[seen]))
    apart, checked = DisagreementColours(one, [one, other]).difference(positions, positions)
    assert float(apart[checked].detach().max()) > 0.1
    blind = dataclasses.replace(one.record.knowledge, views=one.record.knowledge.views * 0)
    other.record = dataclasses.replace(other.record, knowledge=blind)
    _, rgb = DisagreementColours(one, [one, other])(positions, positions)
    torch.testing.assert_close(rgb, torch.tensor(UNCHECKED).expand_as(rgb))


def painted(painter: Painter, pictures: list[Picture], many: int) -> list[Picture]:
    """Wait until so many pictures are there."""
    end = time.monotonic() + 60
    while len(pictures) < many and time.monotonic() < end:
        time.sleep(0.01)
    return pictures


def test_the_painter_shows_a_quick_picture_then_a_good_one_and_the_latest_wish_wins() -> None:
    pictures: list[Picture] = []
    errors: list[str] = []
    painter = Painter(Gallery(Contents(pair())), pictures.append, errors.append, size=40)
    for share in (0.1, 0.2, 0.3):  # all are asked for before the first is taken up
        painter.ask(wanted(names=("average",), share=share))
    painter.start()
    quick, good = painted(painter, pictures, 2)
    assert (quick.done, good.done) == (False, True)
    assert {picture.wanted.share for picture in pictures} == {0.3}
    assert quick.pixels.shape == (MOVING, MOVING, 3)
    assert good.pixels.shape == (40, 40, 3)
    exact = merge(list(pair().values()), "average", coefficients=[0.7, 0.3], force=True).field
    camera = camera_seen(good.wanted.wxyz, good.wanted.position, good.wanted.field_of_view, 40, 40)
    truth = to_picture(Renderer.of(exact).view(camera, 0), "rgb", (0, 1))
    assert np.array_equal(good.pixels, truth)
    painter.ask(wanted(names=("nowhere",)))
    while not errors:
        time.sleep(0.01)
    assert "nothing called `nowhere` is open" in errors[0]
    painter.stop()
    painter.join(10)
    assert not painter.is_alive()


def test_two_things_stand_side_by_side_or_divide_a_picture() -> None:
    painter = Painter(Gallery(Contents(pair())), print, print, size=32)
    alone = {
        name: next(iter(painter.paint(wanted(names=(name,))))).pixels for name in ("front", "rear")
    }
    divided = next(iter(painter.paint(wanted(names=("front", "rear"), divide=0.25)))).pixels
    cut = MOVING // 4
    assert np.array_equal(divided[:, :cut], alone["front"][:, :cut])
    assert np.array_equal(divided[:, cut:], alone["rear"][:, cut:])
    beside = next(iter(painter.paint(wanted(names=("front", "rear"), beside=True, aspect=2.0))))
    assert np.array_equal(beside.pixels[:, :MOVING], alone["front"])
    assert np.array_equal(beside.pixels[:, MOVING:], alone["rear"])
    assert beside.depth is None


def test_a_camera_path_passes_its_cameras_and_is_kept_in_text() -> None:
    cameras = turntable(4, 20, 3.0, torch.zeros(3), elevation=10.0, field_of_view=40.0)
    path = CameraPath()
    with pytest.raises(InputError, match="two cameras or more, it has 0"):
        path.cameras(3, 8, 8)
    for view in range(3):
        path = path.joined(cameras[[view]])
    along = path.cameras(5, 20, 20)
    torch.testing.assert_close(along.camera_to_world[::2], cameras.camera_to_world[:3])
    torch.testing.assert_close(along.intrinsics[::2], cameras.intrinsics[:3])
    along.check()
    back = CameraPath.from_json(path.as_json())
    assert back.poses == path.poses
    assert back.fields_of_view == pytest.approx(path.fields_of_view)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[", "expected JSON"),
        ("{}", "expected JSON with `format`"),
        ('{"format": "else", "frames": []}', "received 'else'"),
        ('{"format": "memonf camera path 1", "frames": [{"camera_to_world": [[1]], '
         '"field_of_view": 40}]}', r"poses of 3 x 4, received \(1, 1\)"),
        ('{"format": "memonf camera path 1", "frames": [{"camera_to_world": [], '
         '"field_of_view": 400}]}', "0 to 180 degrees, received 400"),
    ],
)  # fmt: skip
def test_what_is_no_camera_path_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        CameraPath.from_json(text)


def test_without_viser_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from memonf.viewer.serving import start_server

    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(InputError, match=r'pip install "memonf\[viewer\]"'):
        start_server("127.0.0.1", None)


def test_a_taken_port_is_named() -> None:
    import socket

    from memonf.viewer.serving import start_server

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match=r"--port: port .* is taken"):
            start_server("127.0.0.1", taken.getsockname()[1])


def test_a_pause_waits_and_changes_nothing(tmp_path, robot) -> None:
    """Trained with a pause in the middle: the same bytes as without."""
    from memonf import TrainSettings
    from memonf.fields.tiny_nerf import TinyNerfConfig
    from memonf.training import new_trainer
    from memonf.training.resume import train_to_file

    def trained(name: str, paused=lambda: False):
        trainer = new_trainer(
            robot, group="front", config=TinyNerfConfig(width=8, depth=2, frequencies=2),
            settings=TrainSettings(steps=3, rays=64, grid=16),
        )  # fmt: skip
        return content_hash(train_to_file(trainer, tmp_path / name, paused=paused))

    answers = iter([True] * 3 + [False] * 10)
    state = SimpleNamespace(asked=0)

    def paused() -> bool:
        state.asked += 1
        return next(answers)

    assert trained("a.safetensors", paused) == trained("b.safetensors")
    assert state.asked == 3 + 3
