"""Moving pictures: GIF, animated WebP and MP4 from a list of frames."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import InputError
from ..files import replacing
from ..typing import Float, PathLike, Tensor

__all__ = ["FORMATS", "to_bytes", "write_frames"]

FORMATS = (".gif", ".webp", ".mp4")


def to_bytes(picture: Float[Tensor, "height width 3"]) -> np.ndarray:
    """Float rgb in [0, 1] -> uint8 (height, width, 3), rounded."""
    return (picture.detach().clamp(0, 1) * 255).round().byte().cpu().numpy()


def write_frames(frames: Sequence[np.ndarray], path: PathLike, *, fps: float = 20.0) -> None:
    """Write frames as the format that the name ends in; GIF and WebP run for ever.

    Args:
        frames: uint8 (height, width, 3) each, equal in size; MP4 wants even sides and pads them.
        path: Ends in ``.gif``, ``.webp`` or ``.mp4``.
        fps: Frames per second, > 0.

    Raises:
        InputError: Another ending, or no frames.
        OutputError: The file cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise InputError(f"{path}: expected a name that ends in {', '.join(FORMATS)}")
    if not frames:
        raise InputError("a film needs at least one frame")
    with replacing(path) as temporary:
        if suffix == ".mp4":
            write_mp4(frames, temporary, fps)
            return
        options: dict[str, Any] = {"save_all": True, "duration": round(1000 / fps), "loop": 0}
        if suffix == ".gif":
            # Quantised by hand with one palette for all frames: 30 times faster than Pillow's
            # own path, and no colour flickers.
            palette = shared_palette(frames)
            images = [
                Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE)
                for frame in frames
            ]
        else:
            images = [Image.fromarray(frame) for frame in frames]
            options |= {"quality": 85, "method": 2}
        images[0].save(temporary, append_images=images[1:], **options)


def shared_palette(frames: Sequence[np.ndarray]) -> Image.Image:
    """256 colours from a strip of a few frames."""
    strip = np.concatenate(frames[:: max(1, len(frames) // 8)])
    return Image.fromarray(strip).quantize(256, method=Image.Quantize.MEDIANCUT)


def write_mp4(frames: Sequence[np.ndarray], path: Path, fps: float) -> None:
    """H.264 in an MP4, playable everywhere."""
    import av

    height, width = (side + side % 2 for side in frames[0].shape[:2])
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        # One thread: by itself it takes one and a half for each core, and buffers for each of them.
        stream.options = {"crf": "20", "preset": "fast", "threads": "1"}
        for frame in frames:
            padding = ((0, height - frame.shape[0]), (0, width - frame.shape[1]), (0, 0))
            padded = np.pad(frame, padding, mode="edge")
            for packet in stream.encode(av.VideoFrame.from_ndarray(padded, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
