"""Pictures and films of a field, drawn strip by strip and frame by frame as they are written.

No more than a strip of floats and some frames are in memory, however large a picture is and however
long a film: GIF and MP4 are written as they come, animated WebP keeps its compressed frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import overload

import numpy as np
from PIL import GifImagePlugin, Image

from ..cameras.cameras import Cameras
from ..errors import InputError
from ..rendering.volume_rendering import Renderer
from ..typing import Float, PathLike, Tensor
from ..utils.devices import check_memory
from ..utils.files import check_room, replacing

__all__ = ["FORMATS", "MOST_FRAMES", "Film", "check_film", "drawn", "to_bytes", "write_frames"]

FORMATS = (".gif", ".webp", ".mp4")
#: An hour and more at 25 frames a second.
MOST_FRAMES = 100_000
#: The longest side, in pixels, that each format has.
LONGEST = {".gif": 65535, ".webp": 16383, ".mp4": 16384, ".png": 65535}
#: Bytes a pixel that are held while a format is written, beside the frames themselves: of GIF for
#: the frames that the palette is found from, of MP4 for the frames that the encoder looks ahead to.
HELD = {".gif": 80, ".webp": 40, ".mp4": 200, ".png": 12}
#: Bytes that a pixel of a frame takes on the disk, at least, of pictures as fields show them.
WRITTEN = {".gif": 0.05, ".webp": 0.005, ".mp4": 0.001, ".png": 0.05}
#: Frames that the palette of a GIF is found from, at most about twice as many.
PALETTE_FRAMES = 8
#: Pixels that it is found from, at most.
PALETTE_PIXELS = 1 << 22


def to_bytes(picture: Float[Tensor, "height width 3"]) -> np.ndarray:
    """Float rgb in [0, 1] -> uint8 (height, width, 3), rounded."""
    return (picture.detach().clamp(0, 1) * 255).round().byte().cpu().numpy()


def drawn(
    renderer: Renderer,
    cameras: Cameras,
    view: int,
    on_ray: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """The picture of one camera, uint8 (height, width, 3), of any size: drawn strip by strip.

    Args:
        renderer: The field.
        cameras: Of pictures.
        view: Which camera.
        on_ray: Called with (pixels drawn, pixels) after each strip.
    """
    width, height = cameras.size(view)
    pixels = np.empty((height * width, 3), np.uint8)
    start = 0
    for strip in renderer.strips(cameras, view):
        end = start + len(strip.rgb)
        pixels[start:end] = to_bytes(strip.rgb[None])[0]
        start = end
        on_ray(end, len(pixels))
    return pixels.reshape(height, width, 3)


class Film(Sequence[np.ndarray]):
    """Frames that are drawn when they are asked for, and not kept.

    Args:
        renderer: The field.
        cameras: One for each frame, of one size.
        on_frame: Called with (frames drawn, frames).
    """

    def __init__(
        self,
        renderer: Renderer,
        cameras: Cameras,
        on_frame: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self.renderer, self.cameras, self.on_frame = renderer, cameras, on_frame

    def __len__(self) -> int:
        return len(self.cameras)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[np.ndarray]: ...

    def __getitem__(self, index: int | slice) -> np.ndarray | Sequence[np.ndarray]:
        if isinstance(index, slice):
            return Film(self.renderer, self.cameras[index], self.on_frame)
        if not 0 <= index < len(self):
            raise IndexError(index)
        frame = drawn(self.renderer, self.cameras, index)
        self.on_frame(index + 1, len(self))
        return frame


def check_film(path: PathLike, frames: int, width: int, height: int) -> None:
    """Refuse before work what a film or picture has no room for.

    Args:
        path: File to write; its ending is the format.
        frames: Number of frames; 1 for a picture.
        width: Pixels.
        height: Pixels.

    Raises:
        InputError: Too many frames, too large for the format, or for memory.
        OutputError: Too large for the disk.
    """
    suffix = Path(path).suffix.lower()
    if not 1 <= frames <= MOST_FRAMES:
        raise InputError(f"--frames: expected 1 to {MOST_FRAMES}, received {frames}")
    longest = LONGEST[suffix]
    if not 1 <= min(width, height) <= max(width, height) <= longest:
        raise InputError(
            f"--size: expected 1 to {longest} pixels a side for {suffix}, received {width}x{height}"
        )
    area = width * height
    held = HELD[suffix] * area
    if suffix == ".webp":  # compressed frames are kept until the last
        held += round(WRITTEN[suffix] * area * frames)
    what = f"a {suffix[1:]} of {width}x{height} pixels"
    fitting = 2 ** (max(width, height).bit_length() - 2)
    check_memory(held, what, f"try --size {fitting}")
    check_room(path, WRITTEN[suffix] * area * frames, "ask for fewer --frames or a smaller --size")


def write_frames(frames: Sequence[np.ndarray], path: PathLike, *, fps: float = 20.0) -> None:
    """Write frames as the format that the name ends in; GIF and WebP run for ever.

    Args:
        frames: uint8 (height, width, 3) each, equal in size; MP4 wants even sides and pads them. A
            list, or a `Film`, whose frames are drawn one after the other.
        path: Ends in ``.gif``, ``.webp`` or ``.mp4``.
        fps: Frames per second, in [0.01, 1000].

    Raises:
        InputError: Another ending, no frames or too many, too large for the format or for memory.
        OutputError: The file cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise InputError(f"{path}: expected a name that ends in {', '.join(FORMATS)}")
    if not frames:
        raise InputError("a film needs at least one frame")
    if not 0.01 <= fps <= 1000:
        raise InputError(f"--fps: expected 0.01 to 1000 frames a second, received {fps:g}")
    first = frames[0]
    check_film(path, len(frames), first.shape[1], first.shape[0])
    write = {".mp4": write_mp4, ".gif": write_gif, ".webp": write_webp}[suffix]
    with replacing(path) as temporary:
        write(first, frames, temporary, fps)


def in_order(first: np.ndarray, frames: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """All frames; the first, which is there already, is not asked for again."""
    yield first
    for index in range(1, len(frames)):
        yield frames[index]


def write_gif(first: np.ndarray, frames: Sequence[np.ndarray], path: Path, fps: float) -> None:
    """A GIF, written frame by frame: what changed since the frame before.

    Quantised by hand with one palette for all frames: 30 times faster than Pillow's own path, and
    no colour flickers.
    """
    chosen = range(0, len(frames), max(1, len(frames) // PALETTE_FRAMES))
    known = {index: first if index == 0 else frames[index] for index in chosen}
    palette = shared_palette(list(known.values()))
    duration = round(1000 / fps)
    before: np.ndarray | None = None
    with path.open("wb") as file:
        for index in range(len(frames)):
            frame = known.pop(index) if index in known else frames[index]
            picture = Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE)
            places = np.asarray(picture)
            if before is None:
                info = {"loop": 0, "duration": duration}
                file.writelines(GifImagePlugin.getheader(picture.copy(), info=info)[0])
            left, top, right, bottom = changed_part(before, places)
            changed = picture.crop((left, top, right, bottom))
            file.writelines(GifImagePlugin.getdata(changed, (left, top), duration=duration))
            before = places
        file.write(b";")


def changed_part(before: np.ndarray | None, now: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what changed; a pixel where nothing did."""
    height, width = now.shape
    if before is None:
        return 0, 0, width, height
    changed = before != now
    rows, columns = changed.any(1).nonzero()[0], changed.any(0).nonzero()[0]
    if len(rows) == 0:
        return 0, 0, 1, 1
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


class LazyImage(Image.Image):
    """Frames of a film as Pillow reads an animation: one after the other, by `seek`."""

    def __init__(self, first: np.ndarray, frames: Sequence[np.ndarray]) -> None:
        super().__init__()
        self.frames, self.place, self.n_frames = frames, 0, len(frames)
        self.take(first)

    def take(self, frame: np.ndarray) -> None:
        """Take the pixels of a frame."""
        picture = Image.fromarray(frame)
        self.im, self._mode, self._size = picture.im, picture.mode, picture.size

    def tell(self) -> int:
        """Number of the frame that is shown."""
        return self.place

    def seek(self, frame: int) -> None:
        """Show a frame; back at the first, when all are written, nothing is drawn again."""
        if frame not in (self.place, 0):
            self.take(self.frames[frame])
        self.place = frame


def write_webp(first: np.ndarray, frames: Sequence[np.ndarray], path: Path, fps: float) -> None:
    """An animated WebP."""
    LazyImage(first, frames).save(
        path, format="webp", save_all=True, duration=round(1000 / fps), loop=0, quality=85,
        method=2,
    )  # fmt: skip


def shared_palette(frames: Sequence[np.ndarray]) -> Image.Image:
    """256 colours from a strip of these frames; of large ones from pixels evenly spread."""
    every = math.ceil(math.sqrt(sum(frame[..., 0].size for frame in frames) / PALETTE_PIXELS))
    strip = np.concatenate([frame[::every, ::every] for frame in frames])
    return Image.fromarray(strip).quantize(256, method=Image.Quantize.MEDIANCUT)


def write_mp4(first: np.ndarray, frames: Sequence[np.ndarray], path: Path, fps: float) -> None:
    """H.264 in an MP4, playable everywhere."""
    import av

    height, width = (side + side % 2 for side in first.shape[:2])
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        # One thread: by itself it takes one and a half for each core, and buffers for each of them.
        stream.options = {"crf": "20", "preset": "fast", "threads": "1"}
        for frame in in_order(first, frames):
            padding = ((0, height - frame.shape[0]), (0, width - frame.shape[1]), (0, 0))
            padded = np.pad(frame, padding, mode="edge")
            for packet in stream.encode(av.VideoFrame.from_ndarray(padded, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
