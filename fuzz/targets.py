"""Fuzz targets: every reader of untrusted files, and the seeds of each.

A reader may take an input or refuse it with an error of this project (`MemonfError`). Anything else
it raises, a crash, a hang or a claim on all memory is a bug.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import io
import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap
import torch
import trimesh
from PIL import Image

from memonf.cameras.cameras import Cameras, turntable
from memonf.cameras.frames import Placement
from memonf.cameras.keyframes import CameraPath
from memonf.data import load_scene
from memonf.data.pictures import picture_header, read_picture
from memonf.errors import MemonfError, decoding
from memonf.fields import build_field
from memonf.fields.tiny_nerf import TinyNerfConfig
from memonf.implicit import MeshTruth
from memonf.io.checkpoint import load, save
from memonf.io.export.transforms import transforms
from memonf.io.importing import import_field, read_layers
from memonf.merging.recipe import read_recipe
from memonf.utils.safe_unpickle import load_arrays

__all__ = ["TARGETS", "Target"]

WIDTH, HEIGHT, VIEWS = 8, 6, 3
BOX = torch.tensor([[-1.5] * 3, [1.5] * 3])


@dataclass(frozen=True)
class Target:
    """One reader.

    Attributes:
        file: Name of the file that is fuzzed, in the folder that `prepare` made ready.
        prepare: Writes what stands beside that file.
        read: Reads it; the folder is its argument.
        seeds: Contents from which mutations start.
    """

    file: str
    prepare: Callable[[Path], None]
    read: Callable[[Path], object]
    seeds: Callable[[Path], list[bytes]]

    def look(self, content: bytes, folder: Path) -> bool:
        """Read one input; whether it was taken. Anything but a refusal is raised."""
        (folder / self.file).write_bytes(content)
        try:
            self.read(folder)
        except MemonfError:
            return False
        return True


def nothing(folder: Path) -> None:
    """Beside most files stands nothing."""


def pictures(folder: Path) -> None:
    """A few small pictures in ``images``."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for view in range(VIEWS):
        Image.new("RGB", (WIDTH, HEIGHT), (40 * view, 90, 200)).save(
            folder / "images" / f"{view}.png"
        )


def cameras() -> Cameras:
    """Cameras of these pictures."""
    poses = turntable(VIEWS, WIDTH, 4.0, torch.zeros(3)).camera_to_world
    return Cameras.pinhole(poses, 9.0, WIDTH, HEIGHT)


def whole_scene(path: Path) -> None:
    """Open a data set and decode all of it."""
    scene = load_scene(path)
    for split in scene.loaders:
        scene.split(split)


def transforms_seeds(folder: Path) -> list[bytes]:
    """With and without lens, mask and layout."""
    plain = transforms(cameras(), [f"images/{view}.png" for view in range(VIEWS)])
    rich = json.loads(json.dumps(plain))
    rich |= {"k1": 0.1, "p1": 0.01, "aabb_scale": 4, "train_filenames": ["images/0.png"]}
    rich["frames"][0] |= {"mask_path": "images/1.png", "camera_model": "OPENCV_FISHEYE"}
    return [json.dumps(content).encode() for content in (plain, rich)]


def blender_seeds(folder: Path) -> list[bytes]:
    """NeRF-synthetic frames."""
    frames = [
        {"file_path": f"./images/{view}", "transform_matrix": [*pose.tolist(), [0, 0, 0, 1]]}
        for view, pose in enumerate(cameras().camera_to_world)
    ]
    return [json.dumps({"camera_angle_x": 0.7, "frames": frames}).encode()]


def llff_seeds(folder: Path) -> list[bytes]:
    """One array of poses and bounds."""
    rows = np.zeros((VIEWS, 17))
    rows[:, :15] = np.concatenate([np.eye(3, 4), [[HEIGHT], [WIDTH], [9.0]]], 1).flatten()
    rows[:, 3] = np.arange(VIEWS)
    rows[:, 15:] = 1, 9
    stream = io.BytesIO()
    np.save(stream, rows)
    return [stream.getvalue()]


def colmap_model(folder: Path) -> None:
    """Pictures and a binary model of them."""
    pictures(folder)
    (folder / "sparse").mkdir(exist_ok=True)
    model = pycolmap.Reconstruction()
    seen = [[4.0, 3.0], [2.0, 1.0]]
    for view, pose in enumerate(cameras().camera_to_world.double().numpy(), 1):
        model.add_camera_with_trivial_rig(pycolmap.Camera(
            camera_id=view, model="OPENCV", width=WIDTH, height=HEIGHT,
            params=[9, 9, 4, 3, 0.1, 0, 0, 0],
        ))  # fmt: skip
        turn = (pose[:, :3] @ np.diag([1.0, -1.0, -1.0])).T
        rigid = pycolmap.Rigid3d(np.concatenate([turn, -turn @ pose[:, 3:]], 1))
        image = pycolmap.Image(
            name=f"{view - 1}.png", keypoints=seen, camera_id=view, image_id=view
        )
        model.add_image_with_trivial_frame(image, rigid)
    for point in range(len(seen)):
        track = [pycolmap.TrackElement(view, point) for view in model.images]
        model.add_point3D([0, 0, point], pycolmap.Track(track))
    model.write_binary(folder / "sparse")


def colmap(name: str) -> Target:
    """One file of a binary model; the others are whole."""

    def seeds(folder: Path) -> list[bytes]:
        return [(folder / "sparse" / name).read_bytes()]

    return Target(f"sparse/{name}", colmap_model, whole_scene, seeds)


def npz_seeds(folder: Path) -> list[bytes]:
    """Both layouts; the one without splits holds out what comes after a hundred views."""
    poses = np.concatenate(
        [cameras().camera_to_world.numpy(), np.tile([[[0.0, 0, 0, 1]]], (VIEWS, 1, 1))], 1
    )
    images = np.zeros((VIEWS, HEIGHT, WIDTH, 4), np.uint8)
    many = np.repeat(poses[:1], 101, 0)
    found = []
    for arrays in (
        {"images": np.zeros((101, 2, 2, 3)), "poses": many, "focal": 9.0},
        {"images_train": images, "poses_train": poses, "focal": 9.0, "aabb": BOX.numpy()},
    ):
        stream = io.BytesIO()
        np.savez_compressed(stream, **arrays)
        found.append(stream.getvalue())
    return found


def picture_seeds(folder: Path) -> list[bytes]:
    """Each kind once, one with EXIF."""
    found = []
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind, mode in (("png", "RGBA"), ("jpeg", "RGB"), ("webp", "RGB"), ("png", "I;16")):
        stream = io.BytesIO()
        Image.new(mode, (WIDTH, HEIGHT)).save(stream, kind, exif=exif)
        found.append(stream.getvalue())
    return found


def read_one_picture(folder: Path) -> None:
    """Header, then pixels."""
    picture_header(folder / "picture")
    read_picture(folder / "picture", upright=True)


def field_seeds(folder: Path) -> list[bytes]:
    """A small field with cameras, placement and all."""
    field = build_field("tiny_nerf", TinyNerfConfig(width=4, depth=2, frequencies=1), BOX)
    place = Placement(torch.eye(3).double(), torch.zeros(3).double(), 0.5)
    field.record = dataclasses.replace(
        field.record, near=2.0, far=6.0, cameras=cameras(), placement=place
    )
    save(field, folder / "seed.safetensors")
    return [(folder / "seed.safetensors").read_bytes()]


class Rest:
    """What stands beside tensors in checkpoints: an object of a class that nobody has."""

    def __init__(self) -> None:
        self.rate = 0.1


def checkpoint_seeds(folder: Path) -> list[bytes]:
    """A state by yenchenlin's names: alone, in a checkpoint, among what others leave there."""
    state = {
        "pts_linears.0.weight": torch.randn(4, 9), "pts_linears.0.bias": torch.zeros(4),
        "pts_linears.1.weight": torch.randn(4, 13).half(), "pts_linears.1.bias": torch.zeros(4),
        "output_linear.weight": torch.randn(4, 4).T, "output_linear.bias": torch.zeros(4),
    }  # fmt: skip
    crowded = {
        "loss": np.float64(0.5), "args": argparse.Namespace(lr=1), "rest": Rest(), Rest: [],
        "model": {**state, "output_linear.bias": torch.nn.Parameter(torch.zeros(4))},
        "counts": collections.Counter("ab"), "seen": {1}, "array": np.ones(3, ">f4"),
        "q": torch.zeros(2).to(torch.uint16), "size": torch.Size([1]),
    }  # fmt: skip
    found = []
    for content in (state, {"network_fn_state_dict": state, "global_step": 1}, crowded):
        for zipped in (True, False):
            stream = io.BytesIO()
            torch.save(content, stream, _use_new_zipfile_serialization=zipped)
            found.append(stream.getvalue())
    return [*found, pickle.dumps(crowded), pickle.dumps(state, 0), pickle.dumps(crowded, 5)]


def keras_seeds(folder: Path) -> list[bytes]:
    """Bmild's list of arrays."""
    arrays = np.empty(6, dtype=object)
    shapes = ((9, 4), (4,), (4, 4), (4,), (4, 4), (4,))
    arrays[:] = [np.ones(shape, np.float32) for shape in shapes]
    stream = io.BytesIO()
    np.save(stream, arrays, allow_pickle=True)
    return [stream.getvalue()]


def layers_seeds(folder: Path) -> list[bytes]:
    """All keys once."""
    return [
        b"trunk: [a.0, a.1]\ndensity: b[0]\ncolour: c\nfeature: d\nview: [e]\nhidden_first: true\n"
        b"order: axis-major\ninput: each\nfactor: 2pi\ndirection_order: [wave, axis, frequency]\n"
        b"direction_negated: true\nstate: x.y\nignore: [z*]\ndensity_activation: exp\n",
        b"state: model\norder: wave-major\nfactor: 0.5\ncosines_first: true\n",
    ]


def recipe_seeds(folder: Path) -> list[bytes]:
    """A recipe with most of what it may say."""
    return [
        b"parents: [a.safetensors, b.safetensors]\nmethod: average\ncoefficients: [0.5, 0.5]\n"
        b"settings: {}\nseed: 1\nout: c.safetensors\n"
    ]


def mesh_seeds(kind: str) -> Callable[[Path], list[bytes]]:
    """A closed tetrahedron."""

    def seeds(folder: Path) -> list[bytes]:
        corners = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
        faces = [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]
        content = trimesh.Trimesh(corners, faces).export(file_type=kind)
        return [content.encode() if isinstance(content, str) else content]

    return seeds


def mesh(kind: str) -> Target:
    """A mesh of one format, with one look at its distances."""

    def read(folder: Path) -> None:
        MeshTruth(folder / f"m.{kind}").distance(torch.zeros(1, 3))

    return Target(f"m.{kind}", nothing, read, mesh_seeds(kind))


def path_seeds(folder: Path) -> list[bytes]:
    """Two cameras."""
    path = CameraPath()
    for view in range(2):
        path = path.joined(cameras()[[view]])
    return [path.as_json().encode()]


def read_path(folder: Path) -> None:
    """As `memonf render --path` does."""
    try:
        text = (folder / "path.json").read_bytes().decode()
    except UnicodeDecodeError:
        return
    path = CameraPath.from_json(text)
    if len(path) < 50:
        path.cameras(3, 8, 8)


def read_state(folder: Path) -> None:
    """As `memonf import` does; nothing in it may be run, whatever it asks for."""
    import_field(folder / "c.pt", BOX)


def read_pickle(folder: Path) -> None:
    """Its errors are turned into the caller's own; no code may be run."""
    with (folder / "arrays.pkl").open("rb") as stream, decoding("arrays"):
        load_arrays(stream)


def pickle_seeds(folder: Path) -> list[bytes]:
    """What NumPy leaves behind the header of a list of arrays."""
    content = keras_seeds(folder)[0]
    return [content[content.index(b"\n") + 1 :]]


TARGETS = {
    "transforms": Target("transforms.json", pictures, whole_scene, transforms_seeds),
    "blender": Target("transforms_train.json", pictures, whole_scene, blender_seeds),
    "llff": Target("poses_bounds.npy", pictures, whole_scene, llff_seeds),
    "colmap_images": colmap("images.bin"),
    "colmap_cameras": colmap("cameras.bin"),
    "colmap_points": colmap("points3D.bin"),
    "mesh_ply": mesh("ply"),
    "mesh_obj": mesh("obj"),
    "mesh_stl": mesh("stl"),
    "npz": Target("s.npz", nothing, lambda folder: whole_scene(folder / "s.npz"), npz_seeds),
    "picture": Target("picture", nothing, read_one_picture, picture_seeds),
    "field": Target(
        "f.safetensors", nothing, lambda folder: load(folder / "f.safetensors"), field_seeds
    ),
    "checkpoint": Target("c.pt", nothing, read_state, checkpoint_seeds),
    "keras": Target(
        "k.npy", nothing, lambda folder: import_field(folder / "k.npy", BOX), keras_seeds
    ),
    "arrays": Target("arrays.pkl", nothing, read_pickle, pickle_seeds),
    "layers": Target(
        "l.yaml", nothing, lambda folder: read_layers(folder / "l.yaml"), layers_seeds
    ),
    "recipe": Target(
        "r.yaml", nothing, lambda folder: read_recipe(folder / "r.yaml"), recipe_seeds
    ),
    "camera_path": Target("path.json", nothing, read_path, path_seeds),
}
