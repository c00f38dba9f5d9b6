"""Pictures in the background: the latest wish wins, a quick picture first and a good one later."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from ..cameras.cameras import Cameras
from ..errors import MemonfError
from ..rendering.volume_rendering import Renderer, Rendering, join
from .contents import Contents
from .looks import WHOLE, Crop, Kind, Look, Mode, to_picture
from .poses import camera_seen

__all__ = ["Gallery", "Painter", "Picture", "Wanted", "camera_of"]

#: Height of pictures in motion, pixels.
MOVING = 128
#: Seconds without a new wish after which the good picture is begun.
STILL = 0.25
#: Looks that are kept ready; each takes some tens of megabytes.
KEPT = 8
#: Rays of a good picture between two looks for a newer wish: some hundredths of a second.
STRIP = 1024
#: Seconds between two such looks while something is made ready elsewhere.
POLL = 0.02
#: A good picture more than so many times as high as the quick one gets one in between.
LEAP = 2.5


@dataclass(frozen=True)
class Wanted:
    """What a page is to show.

    Attributes:
        names: One thing, or two to compare; see `Contents`.
        beside: Whether two are shown side by side, rather than one picture divided.
        divide: Where it is divided, in [0, 1] from the left.
        share: Weight of all parents but the first in merges, in [0, 1].
        mode: How they are looked at.
        crop: Part of the box that is shown.
        wxyz: The viewer's camera, see `camera_seen`.
        position: Its centre.
        field_of_view: Vertical, radians.
        aspect: Width over height of the page.
    """

    names: tuple[str, ...]
    beside: bool = False
    divide: float = 0.5
    share: float = 0.5
    mode: Mode = "rgb"
    crop: Crop = WHOLE
    wxyz: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0)
    position: tuple[float, ...] = (0.0, 0.0, 0.0)
    field_of_view: float = 0.8
    aspect: float = 1.0


@dataclass(frozen=True)
class Picture:
    """What was painted.

    Attributes:
        wanted: The wish.
        pixels: uint8 (height, width, 3).
        depth: (height, width), scene units, far where nothing is; None where several cameras'
            pictures stand side by side.
        done: Whether it is the good one.
        seconds: Since the wish was taken up.
        span: Nearest and farthest depth on the colour scale, scene units.
    """

    wanted: Wanted
    pixels: np.ndarray
    depth: np.ndarray | None
    done: bool
    seconds: float
    span: tuple[float, float]


class Gallery:
    """Looks that were made ready, the latest few of them; shared by all pages.

    Attributes:
        contents: What can be looked at.
        workshop: Makes looks ready while painters go on.
        settled: Whether good pictures are worth their time; not where fields change all the time.
    """

    def __init__(self, contents: Contents) -> None:
        self.contents = contents
        self.workshop = ThreadPoolExecutor(2, "workshop")
        self.settled = True
        self._looks: OrderedDict[tuple[str, float, Mode], Look] = OrderedDict()
        self._lock = threading.Lock()

    def look(self, name: str, share: float, mode: Mode) -> Look:
        """The look at one thing; a merge is made if it has to be."""
        if name in self.contents.fields:
            share = 0.0
        kind: Mode = "rgb" if mode in ("depth", "opacity") else mode
        with self._lock:
            key = (name, share, kind)
            if key not in self._looks:
                shown = self.contents.field(name, share)
                self._looks[key] = Look(shown, kind, list(self.contents.parents.values()))
                while len(self._looks) > KEPT:
                    self._looks.popitem(last=False)
            self._looks.move_to_end(key)
            return self._looks[key]

    def prepare(self, looks: Sequence[Look], kind: Kind) -> list[Future[Renderer]]:
        """Have those looks made ready that are not; whoever asks goes on meanwhile."""
        return [
            self.workshop.submit(look.prepare, kind) for look in looks if not look.is_ready(kind)
        ]

    def forget(self) -> None:
        """Make all anew: a field has changed."""
        with self._lock:
            self._looks.clear()


class Painter(threading.Thread):
    """Paints what one page wants, in a thread of its own.

    Args:
        gallery: Where looks come from.
        on_picture: Called with each picture.
        on_error: Called with what went wrong with a wish, in words.
        size: Height of good pictures, pixels.
    """

    def __init__(
        self,
        gallery: Gallery,
        on_picture: Callable[[Picture], None],
        on_error: Callable[[str], None],
        size: int = 400,
    ) -> None:
        super().__init__(daemon=True, name="painter")
        self.gallery = gallery
        self.size = size
        self.on_picture = on_picture
        self.on_error = on_error
        self._changed = threading.Condition()
        self._wanted: Wanted | None = None
        self._stopped = False

    def ask(self, wanted: Wanted) -> None:
        """Want something else from now on."""
        with self._changed:
            self._wanted = wanted
            self._changed.notify()

    def stop(self) -> None:
        """End the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def run(self) -> None:
        """Paint until stopped."""
        while (wanted := self._take()) is not None:
            try:
                for picture in self.paint(wanted):
                    self.on_picture(picture)
            except MemonfError as error:
                self.on_error(str(error))

    def _take(self) -> Wanted | None:
        """Wait for a wish and take it up; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._wanted is not None or self._stopped)
            wanted, self._wanted = self._wanted, None
            return None if self._stopped else wanted

    def superseded(self, within: float = 0.0) -> bool:
        """Whether there is a newer wish, or comes one within so many seconds."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._wanted is not None or self._stopped, timeout=within
            )

    def paint(self, wanted: Wanted) -> Iterator[Picture]:
        """The quick picture, then better ones until something newer is wanted.

        The quick one is never given up: while a slider moves there is always something newer.
        """
        began = time.perf_counter()
        looks = [self.gallery.look(name, wanted.share, wanted.mode) for name in wanted.names]
        quick = [look.in_motion(crop=wanted.crop) for look in looks]
        seen = [renderer.view(camera_of(wanted, MOVING), 0) for renderer in quick]
        yield composed(wanted, seen, depth_span(wanted, quick[0]), began, done=False)
        if not self.gallery.settled or self.superseded(STILL) or not self.made_ready(looks):
            return
        still = [look.still(crop=wanted.crop) for look in looks]
        sizes = [self.size // 2, self.size] if self.size > LEAP * MOVING else [self.size]
        for size in sizes:
            better = self.seen(camera_of(wanted, size), still)
            if better is None:
                return
            span = depth_span(wanted, still[0])
            yield composed(wanted, better, span, began, done=size == self.size)
        self.gallery.prepare(looks, "close")

    def made_ready(self, looks: Sequence[Look]) -> bool:
        """Have looks made ready for good pictures; False if something newer is wanted before."""
        waiting = self.gallery.prepare(looks, "still")
        while not all(made.done() for made in waiting):
            if self.superseded(POLL):
                for made in waiting:
                    made.cancel()
                return False
        return True

    def seen(self, camera: Cameras, renderers: Sequence[Renderer]) -> list[Rendering] | None:
        """What each renderer sees; None if something newer is wanted before it is there."""
        found = []
        for renderer in renderers:
            parts = []
            for part in renderer.strips(camera, 0, STRIP):
                parts.append(part)
                if self.superseded():
                    return None
            width, height = camera.size(0)
            found.append(join(parts).reshape(height, width))
        return found


def camera_of(wanted: Wanted, height: int) -> Cameras:
    """The camera of each picture that is wanted, of this height in pixels."""
    columns = len(wanted.names) if wanted.beside else 1
    width = max(1, round(height * wanted.aspect / columns))
    return camera_seen(wanted.wxyz, wanted.position, wanted.field_of_view, width, height)


def composed(
    wanted: Wanted,
    seen: Sequence[Rendering],
    span: tuple[float, float],
    began: float,
    *,
    done: bool,
) -> Picture:
    """One picture of all that is wanted, divided or side by side.

    Args:
        wanted: The wish.
        seen: What each of `wanted.names` looks like, (height, width, ...).
        span: See `Picture`.
        began: When the wish was taken up, on the clock of `time.perf_counter`.
        done: See `Picture`.
    """
    pixels = [to_picture(part, wanted.mode, span) for part in seen]
    depth: np.ndarray | None = None
    if wanted.beside and len(seen) > 1:
        together = np.concatenate(pixels, 1)
    else:
        width = pixels[0].shape[1]
        cut = round(width * wanted.divide) if len(seen) > 1 else width
        together = np.concatenate([pixels[0][:, :cut], pixels[-1][:, cut:]], 1)
        depths = [behind(part) for part in seen]
        depth = np.concatenate([depths[0][:, :cut], depths[-1][:, cut:]], 1)
    return Picture(wanted, together, depth, done, time.perf_counter() - began, span)


def behind(seen: Rendering) -> np.ndarray:
    """Depth to hide things by: what is mostly background lies far behind."""
    far = torch.where(seen.opacity > 0.5, seen.depth, 1e3)
    return far.float().cpu().numpy()


def depth_span(wanted: Wanted, renderer: Renderer) -> tuple[float, float]:
    """Nearest and farthest depth of the box from the camera, scene units."""
    box = renderer.grid.aabb.cpu()
    centre, radius = box.mean(0), 0.5 * float((box[1] - box[0]).norm())
    distance = float((centre - torch.tensor(wanted.position, dtype=torch.float32)).norm())
    return max(renderer.near, distance - radius), distance + radius
