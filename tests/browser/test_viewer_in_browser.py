"""The viewer in a real browser: it shows a picture, follows its controls, asks for nothing else."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from conftest import knowing_pair
from PIL import Image

pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytest.importorskip("viser", reason="needs memonf[viewer]")

from memonf.viewer import Contents, open_page


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Any, str]]:
    parents = dict(zip(("front", "rear"), knowing_pair(), strict=True))
    panel, address = open_page(Contents(parents), host="127.0.0.1", port=None, size=96)
    yield panel, address
    panel.server.stop()


def picture(page: Any) -> np.ndarray:
    """The middle of what the browser shows."""
    shown = page.screenshot(clip={"x": 300, "y": 250, "width": 400, "height": 400})
    return np.asarray(Image.open(io.BytesIO(shown)).convert("RGB"))


def until(page: Any, panel: Any, condition: Any) -> Any:
    """Wait until what the page got last is as it should be."""
    for _ in range(600):
        pages = list(panel.pages.values())
        if pages and pages[-1].last is not None and condition(pages[-1].last):
            return pages[-1].last
        page.wait_for_timeout(50)
    raise AssertionError("the picture did not come")


def test_it_shows_merges_follows_its_controls_and_asks_for_nothing_outside(
    page: Any, served: tuple[Any, str]
) -> None:
    panel, address = served
    assert panel.server.get_host() == "127.0.0.1"
    page.goto(address)
    first = until(page, panel, lambda last: last.done)
    assert first.wanted.names == (panel.contents.methods[0],)
    page.wait_for_timeout(500)
    before = picture(page)
    assert before.std() > 1  # not a blank page

    panel.share.value = 0.9  # as the slider does
    moved = until(page, panel, lambda last: last.done and last.wanted.share == 0.9)
    assert not np.array_equal(moved.pixels, first.pixels)

    # By hand: the control of the page itself.
    page.get_by_label("Show", exact=True).click()
    page.get_by_role("option", name="rear", exact=True).click()
    until(page, panel, lambda last: last.done and last.wanted.names == ("rear",))
    page.wait_for_timeout(500)
    assert not np.array_equal(picture(page), before)

    # Orbit with the mouse.
    where = until(page, panel, lambda last: True).wanted.position
    page.mouse.move(400, 450)
    page.mouse.down()
    page.mouse.move(520, 450, steps=5)
    page.mouse.up()
    until(page, panel, lambda last: np.linalg.norm(np.subtract(last.wanted.position, where)) > 0.1)

    assert page.complaints == []
    local = ("data:", "blob:", address, address.replace("http", "ws"))
    assert [url for url in page.asked if not url.startswith(local)] == []
    assert len(page.context.pages) == 1


def test_pictures_paths_and_films_reach_the_browser(page: Any, served: tuple[Any, str]) -> None:
    panel, address = served
    page.goto(address)
    until(page, panel, lambda last: last.done)
    page.get_by_text("Keep", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save picture").click()
    assert Image.open(download.value.path()).size[1] == 96
    page.get_by_role("button", name="Add camera to path").click()
    page.wait_for_timeout(300)
    assert len(panel.path) == 1
    panel.frames.value = 3
    with page.expect_download(timeout=60000) as download:
        page.get_by_role("button", name="Record video").click()
    assert download.value.path().read_bytes()[4:8] == b"ftyp"


def test_a_click_on_a_frustum_snaps_the_view(page: Any, served: tuple[Any, str]) -> None:
    panel, address = served
    page.goto(address)
    until(page, panel, lambda last: last.done)
    cameras = panel.contents.fields["front"].record.cameras
    pose = cameras.camera_to_world[1].numpy()
    client = list(panel.server.get_clients().values())[-1]  # pages of other tests may linger
    # Stand behind the camera and to its side: its frustum is in the middle of the page.
    client.camera.position = tuple(pose[:, 3] + 0.5 * pose[:, 2] + 0.2 * pose[:, 1])
    client.camera.look_at = tuple(pose[:, 3] - 0.05 * pose[:, 2])
    page.wait_for_timeout(1500)
    page.get_by_text("Training cameras", exact=True).click()
    page.get_by_label("Show them", exact=True).evaluate("box => box.click()")
    page.wait_for_timeout(1500)
    size = page.viewport_size
    page.mouse.click(size["width"] / 2, size["height"] / 2)
    until(page, panel, lambda last: np.allclose(last.wanted.position, pose[:, 3], atol=0.02))
