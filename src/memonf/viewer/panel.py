"""The page: what can be chosen, the picture behind it, cameras, saved pictures and films."""

from __future__ import annotations

import io
import re
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..cameras.cameras import Cameras, turntable
from ..cameras.keyframes import CameraPath
from ..errors import MemonfError, shown
from ..rendering.volume_rendering import FRAMES
from ..visualization.turntables import field_turntable
from ..visualization.video import write_frames
from .contents import Contents
from .looks import MODES, Look, to_picture
from .painter import Gallery, Painter, Picture, Wanted, depth_span
from .poses import camera_seen, viewer_pose

__all__ = ["Panel"]

NOTHING = "nothing"
DIVIDED, BESIDE = "one picture, divided", "two pictures"
#: Colours of the frusta of each parent's cameras, one after the other.
FRUSTA = ((226, 122, 46), (46, 122, 200), (90, 165, 80), (160, 90, 190))
#: Of recorded films.
FILM_FPS = 20.0
JPEG_QUALITY = 85


@dataclass
class Page:
    """One open browser page: its painter and the last picture that it got."""

    painter: Painter
    last: Picture | None = None


def as_markdown(text: str) -> str:
    """Any text for a page's markdown, which would take HTML and scripts in it for its own."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", shown(text))


class Panel:
    """Controls on a viser server, and a painter for each page that opens.

    Args:
        server: A `viser.ViserServer`.
        contents: What can be looked at.
        size: Height of good pictures, pixels.
    """

    def __init__(self, server: Any, contents: Contents, size: int) -> None:
        self.server = server
        self.contents = contents
        self.gallery = Gallery(contents)
        self.size = size
        self.path = CameraPath()
        self.pages: dict[int, Page] = {}
        self.add_choices()
        self.add_crop()
        self.add_cameras()
        self.add_pictures()
        self.status = server.gui.add_markdown("")
        server.scene.set_up_direction("+z")
        self.place_first_camera()
        server.on_client_connect(self.connected)
        server.on_client_disconnect(self.disconnected)

    # What is shown.

    def add_choices(self) -> None:
        """Fields, methods, coefficient, colours and comparison."""
        gui, names = self.server.gui, self.contents.names
        merged = self.contents.methods[0] if self.contents.methods else names[0]
        self.shown = gui.add_dropdown("Show", names, initial_value=merged)
        self.share = gui.add_slider(
            "Coefficient", 0.0, 1.0, 0.01, 0.5,
            hint="Weight of all parents but the first; merges by the method follow it.",
            disabled=not self.contents.methods,
        )  # fmt: skip
        self.mode = gui.add_dropdown("Colours", MODES, initial_value="rgb")
        self.beside = gui.add_dropdown("Compare with", (NOTHING, *names), initial_value=NOTHING)
        self.layout = gui.add_dropdown("As", (DIVIDED, BESIDE), initial_value=DIVIDED)
        self.divide = gui.add_slider("Divide", 0.0, 1.0, 0.01, 0.5)
        for control in (self.shown, self.share, self.mode, self.beside, self.layout, self.divide):
            control.on_update(lambda _: self.repaint())
        if self.contents.why_none:
            gui.add_markdown(f"No merges: {as_markdown(self.contents.why_none)}.")

    def add_crop(self) -> None:
        """A part of the box."""
        with self.server.gui.add_folder("Crop box", expand_by_default=False):
            self.crop = [
                self.server.gui.add_multi_slider(axis, 0.0, 1.0, 0.01, (0.0, 1.0), min_range=0.01)
                for axis in "xyz"
            ]
        for control in self.crop:
            control.on_update(lambda _: self.repaint())

    def add_cameras(self) -> None:
        """The cameras that parents were trained with, to be clicked."""
        with self.server.gui.add_folder("Training cameras", expand_by_default=False):
            visible = self.server.gui.add_checkbox("Show them", False)
        frusta = []
        for number, (name, parent) in enumerate(self.contents.parents.items()):
            cameras = parent.record.cameras
            if cameras is None:
                continue
            for view in range(len(cameras)):
                width, height = cameras.size(view)
                wxyz, position = viewer_pose(cameras.camera_to_world[view])
                frustum = self.server.scene.add_camera_frustum(
                    f"/cameras/{name}/{view}", fov=cameras.vertical_angle(view),
                    aspect=width / height, scale=0.12, visible=False,
                    color=FRUSTA[number % len(FRUSTA)], wxyz=wxyz, position=position,
                )  # fmt: skip
                frustum.on_click(self.snap(cameras, view))
                frusta.append(frustum)

        def show_or_hide(_: Any) -> None:
            for frustum in frusta:
                frustum.visible = visible.value

        visible.on_update(show_or_hide)

    def snap(self, cameras: Cameras, view: int) -> Callable[[Any], None]:
        """What happens when a frustum is clicked: the page looks through that camera."""
        wxyz, position = viewer_pose(cameras.camera_to_world[view])
        angle = cameras.vertical_angle(view)

        def clicked(event: Any) -> None:
            camera = event.client.camera
            with event.client.atomic():
                camera.position, camera.wxyz, camera.fov = position, wxyz, angle

        return clicked

    def add_pictures(self) -> None:
        """Pictures, camera paths and films to keep."""
        gui = self.server.gui
        with gui.add_folder("Keep", expand_by_default=False):
            gui.add_button("Save picture").on_click(self.save_picture)
            gui.add_button("Add camera to path").on_click(self.add_to_path)
            gui.add_button("Empty path").on_click(lambda _: self.set_path(CameraPath()))
            gui.add_button("Save path").on_click(self.save_path)
            gui.add_upload_button("Load path", mime_type="application/json").on_upload(
                self.load_path
            )
            self.frames = gui.add_number("Frames", 60, min=2, max=1000, step=1)
            gui.add_button(
                "Record video", hint="Along the path; around the scene if it has no two cameras."
            ).on_click(self.record)
            self.progress = gui.add_progress_bar(0.0, visible=False)
            self.kept = gui.add_markdown("The path is empty.")

    # Pages and what they want.

    def place_first_camera(self) -> None:
        """Begin where the first parent's turntable begins."""
        first = next(iter(self.contents.fields.values()))
        camera = field_turntable(first, 1, 100)
        start = self.server.initial_camera
        start.position = tuple(camera.positions[0].tolist())
        start.look_at = tuple(first.aabb.mean(0).tolist())
        start.up = (0.0, 0.0, 1.0)
        start.fov = 2 * float(np.arctan(50 / float(camera.intrinsics[0, 1])))

    def connected(self, client: Any) -> None:
        """A page was opened."""

        def on_picture(picture: Picture) -> None:
            page.last = picture
            client.scene.set_background_image(
                picture.pixels, format="jpeg", jpeg_quality=JPEG_QUALITY, depth=picture.depth
            )
            kind = "picture" if picture.done else "preview"
            height, width = picture.pixels.shape[:2]
            scale = ""
            if picture.wanted.mode == "depth":
                near, far = picture.span
                scale = f"; depth from {near:.1f} (bright) to {far:.1f} (dark) scene units"
            self.status.content = f"{kind} of {width}×{height} in {picture.seconds:.2f} s{scale}"

        def on_error(message: str) -> None:
            self.status.content = f"**{as_markdown(message)}**"

        painter = Painter(self.gallery, on_picture, on_error, self.size)
        page = self.pages[client.client_id] = Page(painter)
        painter.start()
        client.camera.on_update(lambda _: painter.ask(self.wanted(client)))

    def disconnected(self, client: Any) -> None:
        """A page was closed."""
        self.pages.pop(client.client_id).painter.stop()

    def repaint(self) -> None:
        """All pages want what the controls say now."""
        for identity, client in self.server.get_clients().items():
            if identity in self.pages and client.camera.update_timestamp:
                self.pages[identity].painter.ask(self.wanted(client))

    def wanted(self, client: Any) -> Wanted:
        """What the controls and a page's camera say."""
        names = [self.shown.value, *([] if self.beside.value == NOTHING else [self.beside.value])]
        lower, upper = zip(*(control.value for control in self.crop), strict=True)
        camera = client.camera
        return Wanted(
            names=tuple(names), beside=self.layout.value == BESIDE, divide=self.divide.value,
            share=self.share.value, mode=self.mode.value, crop=(tuple(lower), tuple(upper)),
            wxyz=tuple(camera.wxyz), position=tuple(camera.position), field_of_view=camera.fov,
            aspect=camera.aspect,
        )  # fmt: skip

    # What is kept.

    def save_picture(self, event: Any) -> None:
        """Send the last picture to the browser as a PNG file."""
        last = self.pages[event.client.client_id].last
        if last is not None:
            content = io.BytesIO()
            Image.fromarray(last.pixels).save(content, "png")
            event.client.send_file_download(
                f"{last.wanted.names[0]}.png", content.getvalue(), save_immediately=True
            )

    def add_to_path(self, event: Any) -> None:
        """Let the path go on to where the page's camera is."""
        camera = event.client.camera
        height = 100
        width = max(1, round(height * camera.aspect))
        seen = camera_seen(camera.wxyz, camera.position, camera.fov, width, height)
        self.set_path(self.path.joined(seen))

    def set_path(self, path: CameraPath) -> None:
        """Take another path."""
        self.path = path
        self.kept.content = f"The path has {len(path)} camera(s)." if path else "The path is empty."

    def save_path(self, event: Any) -> None:
        """Send the path to the browser as a JSON file."""
        event.client.send_file_download(
            "path.json", self.path.as_json().encode(), save_immediately=True
        )

    def load_path(self, event: Any) -> None:
        """Take the path of an uploaded file."""
        try:
            self.set_path(CameraPath.from_json(event.target.value.content.decode()))
        except (MemonfError, UnicodeDecodeError) as error:
            self.kept.content = f"**{as_markdown(str(error))}**"

    def record(self, event: Any) -> None:
        """Film what is shown, in the background, and send the film to the browser."""
        wanted, client = self.wanted(event.client), event.client
        threading.Thread(target=self.film, args=(wanted, client), daemon=True).start()

    def film(self, wanted: Wanted, client: Any) -> None:
        """Render along the path, or around the scene, and send an MP4 file."""
        self.progress.visible = True
        try:
            look = self.gallery.look(wanted.names[0], wanted.share, wanted.mode)
            frames = []
            for picture in film_frames(look, wanted, self.path, self.frames.value, self.size):
                frames.append(picture)
                self.progress.value = 100 * len(frames) / self.frames.value
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "film.mp4"
                write_frames(frames, file, fps=FILM_FPS)
                client.send_file_download(
                    f"{wanted.names[0]}.mp4", file.read_bytes(), save_immediately=True
                )
        except MemonfError as error:
            self.kept.content = f"**{as_markdown(str(error))}**"
        finally:
            self.progress.visible = False


def film_frames(look: Look, wanted: Wanted, path: CameraPath, count: int, size: int) -> Any:
    """Frames of a film of one look, uint8 each, one after the other."""
    width = max(1, round(size * wanted.aspect))
    if len(path) > 1:
        cameras = path.cameras(count, width, size)
    else:
        centre = look.shown.aabb.mean(0).cpu()
        away = np.asarray(wanted.position) - centre.numpy()
        flat = float(np.hypot(away[0], away[1]))
        cameras = turntable(
            count, size, float(np.linalg.norm(away)), centre,
            elevation=float(np.degrees(np.arctan2(away[2], flat))),
            field_of_view=float(np.degrees(wanted.field_of_view)),
        ).resized(size, size)  # fmt: skip
    renderer = replace(look.still(crop=wanted.crop), march=FRAMES.fitting(look.shown).march)
    for view in range(len(cameras)):
        seen = renderer.view(cameras, view)
        yield to_picture(seen, wanted.mode, depth_span(wanted, renderer))
