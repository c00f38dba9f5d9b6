"""The picture of what a field knows: colours by hand, unseen sides, files and errors."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ARCHITECTURES, BOX, small_field
from PIL import Image

import memonf
from memonf.cameras.cameras import turntable
from memonf.cli import main
from memonf.errors import InputError
from memonf.fields import Record, build_field, known
from memonf.rendering.knowledge import Knowledge
from memonf.visualization import knowledge as drawing
from memonf.visualization.turntables import field_turntable

UNSEEN = np.array(drawing.UNSEEN)


class Ball:
    """A solid grey ball of radius 0.6 in the middle of its box."""

    aabb = BOX
    record = Record(near=2.0, far=6.0, cameras=turntable(6, 20, 4.0, torch.zeros(3)))

    def __call__(self, positions, directions):
        return self.density(positions), torch.full((len(positions), 3), 0.5)

    def density(self, positions):
        return 200.0 * (positions.norm(dim=-1) < 0.6)


def everywhere(views: int, cells: int = 40) -> Knowledge:
    """The ball's knowledge if the same number of cameras saw all of the box."""
    axis = (torch.arange(2 * cells) + 0.5) / cells - 1
    radius = torch.cartesian_prod(axis, axis, axis).norm(dim=-1)
    return Knowledge(
        BOX,
        torch.full((cells,) * 3, views, dtype=torch.uint8),
        torch.full((cells,) * 3, 255, dtype=torch.uint8),
        (radius < 0.6).view((2 * cells,) * 3),
    )


def test_frames_show_the_unseen_side_in_its_own_colour() -> None:
    knowledge = everywhere(views=5)
    knowledge.views[20:] = 0  # nobody saw x > 0
    colours = drawing.view_colours(9)
    own, coloured = drawing.turntable_pair(Ball(), knowledge, colours, frames=4, size=41)
    middle = [frame[20, 20] / 255 for frame in coloured]  # from -y, +x, +y, -x
    np.testing.assert_allclose(middle[1], UNSEEN, atol=0.01)
    np.testing.assert_allclose(middle[3], colours[5].numpy(), atol=0.01)
    # From the front both halves are there, x > 0 to the right, and the background is left alone.
    np.testing.assert_allclose(coloured[0][20, 23] / 255, UNSEEN, atol=0.01)
    np.testing.assert_allclose(coloured[0][20, 17] / 255, colours[5].numpy(), atol=0.01)
    np.testing.assert_array_equal(coloured[0][0, 0], [255, 255, 255])
    np.testing.assert_allclose(own[1][20, 20], 128, atol=1)


def test_no_number_of_views_looks_unseen() -> None:
    for most in (0, 1, 2, 100, 255):
        colours = drawing.view_colours(most)
        np.testing.assert_allclose(colours[0].numpy(), UNSEEN, atol=1e-6)
        both = torch.cat([colours[1:], drawing.paler(colours[1:])])
        for unseen in (colours[:1], drawing.paler(colours[:1])):
            assert float((both - unseen).abs().sum(1).min()) > 0.3
    # Perceptual: ever lighter.
    luminance = drawing.view_colours(40)[1:41] @ torch.tensor([0.2126, 0.7152, 0.0722])
    assert (luminance.diff() > 0).all()


def test_slices_tell_the_four_states_apart() -> None:
    views = torch.zeros(2, 2, 2, dtype=torch.uint8)
    views[0] = 3  # seen where x < 0
    solid = torch.zeros(4, 4, 4, dtype=torch.bool)
    solid[:, 3, 2] = True  # a bar along x at y = 0.75, z = 0.25
    knowledge = Knowledge(BOX, views, views, solid)
    colours = drawing.view_colours(3)
    expected = colours[[3, 3, 0, 0]]
    piece = drawing.Slice.of(knowledge, colours, cut=2, right=0, up=1)
    assert piece.middle == pytest.approx([-0.25, 0.75, 0.25])
    assert piece.extent == (-1.0, 1.0, -1.0, 1.0)
    np.testing.assert_array_equal(piece.solid, [[False] * 4] * 3 + [[True] * 4])
    np.testing.assert_allclose(piece.rgb[3], expected.numpy(), atol=1e-6)
    np.testing.assert_allclose(piece.rgb[0], drawing.paler(expected).numpy(), atol=1e-6)
    lines = drawing.outline(piece)
    assert len(lines) == 10  # round a bar of four pixels: four below, four above, one at each end
    assert ((-1.0, 0.5), (-1.0, 1.0)) in [tuple(line) for line in lines]


def test_slices_of_nothing_go_through_the_middle_of_the_box() -> None:
    empty = dataclasses.replace(everywhere(1), solid=torch.zeros(80, 80, 80, dtype=torch.bool))
    torch.testing.assert_close(drawing.middle_of_matter(empty), torch.full((3,), 0.0125))


@pytest.mark.parametrize(("cameras", "recorded", "source"), [
    (True, True, "recorded"), (True, False, "recomputed"), (False, False, "assumed"),
])  # fmt: skip
def test_summary_says_where_the_knowledge_comes_from(cameras, recorded, source) -> None:
    knowledge = everywhere(views=7)
    knowledge.views[20:] = 0
    record = Record(
        cameras=Ball.record.cameras if cameras else None,
        knowledge=knowledge if recorded else None,
    )
    said = drawing.knowledge_summary(record, knowledge)
    assert (said["source"], said["most_views"]) == (source, 7)
    ball = 4 / 3 * np.pi * 0.6**3 / 8
    assert said["seen_share"] == pytest.approx(0.5)
    assert said["solid_share"] == pytest.approx(ball, rel=0.02)
    assert said["seen_empty_share"] == pytest.approx((1 - ball) / 2, abs=0.02)
    assert ("assumed" in drawing.headline(record, knowledge)) == (source == "assumed")


@pytest.mark.parametrize("cameras", [True, False])
def test_picture_is_written(tmp_path: Path, cameras: bool) -> None:
    field = small_field("nerf")
    if not cameras:
        field.record = dataclasses.replace(field.record, cameras=None)
    out = tmp_path / "new" / "knows.png"
    drawing.draw_knowledge(field, known(field), out, name="knows", frames=2, size=16)
    with Image.open(out) as picture:
        assert picture.format == "PNG"
        width, height = picture.size
        pixels = np.asarray(picture.convert("RGB")) / 255
    assert 1200 < width < 2400
    assert 700 < height < 1600
    assert (np.abs(pixels - UNSEEN).max(-1) < 0.01).sum() > 100  # in the key at least
    assert list(out.parent.iterdir()) == [out]


def test_picture_of_what_nobody_saw(tmp_path: Path) -> None:
    drawing.draw_knowledge(Ball(), everywhere(views=0), tmp_path / "none.png", frames=1, size=8)
    assert (tmp_path / "none.png").stat().st_size > 10_000


def test_other_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in \.png"):
        drawing.draw_knowledge(Ball(), everywhere(1), tmp_path / "knows.jpg")


def test_inspect_draws_and_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "field.safetensors", tmp_path / "field.png"
    field = build_field(
        "tiny_nerf", ARCHITECTURES["tiny_nerf"][1], BOX
    )  # nearly transparent: quickly rendered
    field.record = Ball.record
    memonf.save(field, file)
    assert main(["inspect", str(file), "--device", "cpu", "--json", "--png", str(out)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["png"] == str(out)
    assert out.exists()
    assert said["knowledge"]["source"] == "recomputed"
    assert 0 < said["knowledge"]["seen_share"] <= 1
    assert said["knowledge"]["most_views"] == 6
    assert main(["inspect", str(file), "--device", "cpu"]) == 0
    assert "\nknowledge: recomputed; " in capsys.readouterr().out


@pytest.mark.parametrize(("name", "status", "message"), [
    ("knows.jpg", 2, "--png {}: expected a name that ends in .png"),
    ("folder.png", 1, "{}: is a folder"),
    ("file/knows.png", 1, "{}: cannot be written"),
])  # fmt: skip
def test_inspect_refuses_bad_paths(tmp_path: Path, capsys, name, status, message) -> None:
    file, out = tmp_path / "field.safetensors", tmp_path / name
    memonf.save(small_field("tiny_nerf"), file)
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("")
    before = sorted(tmp_path.rglob("*"))
    assert main(["inspect", str(file), "--png", str(out)]) == status
    said = capsys.readouterr()
    assert message.format(out) in said.err
    assert said.out == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_turntable_of_unknown_cameras_is_within_the_far_distance() -> None:
    ball = Ball()
    ball.record = dataclasses.replace(Ball.record, cameras=None)
    positions = field_turntable(ball, 3, 16).positions
    torch.testing.assert_close(positions.norm(dim=1), torch.full((3,), 4.0))
    ball.record = Record()
    assert float(field_turntable(ball, 3, 16).positions.norm(dim=1).min()) > 5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_picture_of_a_field_on_the_gpu(tmp_path: Path) -> None:
    field = small_field("nerf").to("cuda")
    knowledge = known(field)
    assert knowledge.views.device.type == "cuda"
    drawing.draw_knowledge(field, knowledge, tmp_path / "gpu.png", frames=2, size=16)
    assert (tmp_path / "gpu.png").stat().st_size > 10_000
