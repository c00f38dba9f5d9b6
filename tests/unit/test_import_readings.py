"""How params are read: layouts of encodings, departures, and a trial against training views."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor, nn

import memonf
from memonf.cameras.cameras import turntable
from memonf.cli import main
from memonf.errors import FieldFileError, InputError
from memonf.fields.classic_nerf import ClassicNerf
from memonf.io.importing import Hints, Look, import_field, read_layers, read_net, try_readings
from memonf.io.importing.layer_names import read_hints
from memonf.io.importing.orders import EncodingOrder, other_orders

BOX = torch.tensor([[-1.0] * 3, [1.0] * 3])
WIDTH, POSITION, DIRECTION = 10, 4, 2
NAMES = {
    "trunk": ["a", "b", "c"], "density": "sigma", "colour": "rgb", "feature": "feat",
    "view": ["dir"],
}  # fmt: skip


def encode_slowly(values: Tensor, frequencies: int, order: EncodingOrder, bare: bool) -> Tensor:
    """An encoding written down as its definition says, feature by feature."""
    values = -values if order.negated else values
    waves = [torch.cos, torch.sin] if order.cosines_first else [torch.sin, torch.cos]
    ranges = {"frequency": range(frequencies), "wave": range(2), "axis": range(3)}
    features = []
    outer, middle, inner = order.loops
    for first in ranges[outer]:
        if bare and order.place == "each":
            features.append(values[:, first])
        for second in ranges[middle]:
            for third in ranges[inner]:
                at = {outer: first, middle: second, inner: third}
                angle = order.factor * 2.0 ** at["frequency"] * values[:, at["axis"]]
                features.append(waves[at["wave"]](angle))
    if bare and order.place in ("first", "last"):
        own = [values[:, axis] for axis in range(3)]
        features = own + features if order.place == "first" else features + own
    return torch.stack(features, -1)


class Network(nn.Module):
    """A NeRF by nobody's names, with all departures as switches."""

    def __init__(
        self, positions: EncodingOrder, directions: EncodingOrder, *, bare: bool = True,
        skip: bool = False, sharp: float = 1.0, **switches: object,
    ) -> None:  # fmt: skip
        super().__init__()
        torch.manual_seed(3)
        self.positions, self.directions, self.bare, self.skip = positions, directions, bare, skip
        self.switches = {
            "hidden_first": False, "first_activation": True, "feature_activation": False,
            "density_from_feature": False, "direction_first": False, "density_activation": "relu",
            **switches,
        }  # fmt: skip
        inputs, seen = 6 * POSITION + 3 * bare, 6 * DIRECTION + 3 * bare
        self.a = nn.Linear(inputs, WIDTH)
        self.b = nn.Linear(WIDTH + inputs * skip, WIDTH)
        self.c = nn.Linear(WIDTH, WIDTH)
        self.sigma, self.feat = nn.Linear(WIDTH, 1), nn.Linear(WIDTH, WIDTH)
        self.dir, self.rgb = nn.Linear(WIDTH + seen, WIDTH), nn.Linear(WIDTH, 3)
        with torch.no_grad():  # pictures that differ from place to place
            for layer in (self.a, self.b, self.c, self.feat, self.dir):
                layer.weight *= 2
            self.sigma.weight *= 8 * sharp
            self.rgb.weight *= 6

    def forward(self, positions: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        on = self.switches
        inputs = encode_slowly(positions, POSITION, self.positions, self.bare)
        hidden = self.a(inputs)
        hidden = hidden.relu() if on["first_activation"] else hidden
        if self.skip:
            pair = [hidden, inputs] if on["hidden_first"] else [inputs, hidden]
            hidden = torch.cat(pair, -1)
        hidden = self.c(self.b(hidden).relu()).relu()
        feature = self.feat(hidden)
        feature = feature.relu() if on["feature_activation"] else feature
        raw = self.sigma(feature if on["density_from_feature"] else hidden)[:, 0]
        activation = {"relu": torch.relu, "softplus": nn.functional.softplus, "exp": torch.exp}
        seen = encode_slowly(directions, DIRECTION, self.directions, self.bare)
        pair = [seen, feature] if on["direction_first"] else [feature, seen]
        rgb = self.rgb(self.dir(torch.cat(pair, -1)).relu()).sigmoid()
        return activation[str(on["density_activation"])](raw), rgb


def assert_computes(field: ClassicNerf, network: nn.Module) -> None:
    generator = torch.Generator().manual_seed(1)
    positions = torch.rand(200, 3, generator=generator) * 2 - 1
    directions = nn.functional.normalize(torch.randn(200, 3, generator=generator), dim=-1)
    with torch.no_grad():
        density, rgb = network(positions, directions)
        found = field(positions, directions)
    torch.testing.assert_close(found.density, density, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.rgb, rgb, rtol=1e-4, atol=1e-4)


def said(**more: object) -> Hints:
    return read_hints({**NAMES, **more}, "names.yaml")


def saved(network: nn.Module, folder: Path) -> Path:
    torch.save(network.state_dict(), folder / "net.pth")
    return folder / "net.pth"


ORDERS = [EncodingOrder(), *other_orders(EncodingOrder(), True)]


def test_the_orders_are_all_there_are() -> None:
    assert len({tuple(order.columns(3, True)) for order in ORDERS}) == len(ORDERS) == 28
    assert len(other_orders(EncodingOrder(), False)) == 11


@pytest.mark.parametrize("bare", [True, False])
@pytest.mark.parametrize("order", ORDERS, ids=EncodingOrder.words)
def test_each_order_is_read_as_the_yaml_file_says_it(
    order: EncodingOrder, bare: bool, tmp_path: Path
) -> None:
    if not bare:
        order = dataclasses.replace(order, input="")
    network = Network(order, order, bare=bare)
    text = order.words().replace(", ", "\n") if bare else f"{order.words()}".replace(
        ", ", "\n").replace(f"input: {order.place}", "input: absent")  # fmt: skip
    (tmp_path / "names.yaml").write_text(f"{yaml.safe_dump(NAMES)}{text}\n")
    layers = read_layers(tmp_path / "names.yaml")
    assert_computes(import_field(saved(network, tmp_path), BOX, layers=layers), network)


@pytest.mark.parametrize(
    ("positions", "directions", "text"),
    [
        ({"factor": math.pi}, {"factor": math.pi}, "factor: pi"),
        ({"factor": 2 * math.pi}, {}, "factor: 2pi\ndirection_factor: 1"),
        ({}, {"negated": True}, "direction_negated: true"),
        ({}, {"loops": ("axis", "frequency", "wave")}, "direction_order: axis-major"),
        ({"loops": ("wave", "frequency", "axis")}, {}, "order: wave-major\n"
         "direction_order: frequency-major"),
        ({"loops": ("wave", "axis", "frequency")}, {"loops": ("wave", "axis", "frequency")},
         "order: [wave, axis, frequency]"),
        ({"input": "last"}, {"input": "last"}, "input: last"),
        ({"cosines_first": True}, {}, "cosines_first: true\ndirection_cosines_first: false"),
        ({"factor": 0.5}, {"factor": 0.5}, "factor: 0.5"),
    ],
)  # fmt: skip
def test_what_a_yaml_file_says_of_encodings(
    positions: dict[str, object], directions: dict[str, object], text: str, tmp_path: Path
) -> None:
    network = Network(EncodingOrder(**positions), EncodingOrder(**directions))  # type: ignore[arg-type]
    (tmp_path / "names.yaml").write_text(f"{yaml.safe_dump(NAMES)}{text}\n")
    layers = read_layers(tmp_path / "names.yaml")
    assert_computes(import_field(saved(network, tmp_path), BOX, layers=layers), network)


SWITCHES: list[dict[str, object]] = [
    {"first_activation": False}, {"feature_activation": True}, {"density_from_feature": True},
    {"direction_first": True}, {"density_activation": "softplus"}, {"density_activation": "exp"},
    {"hidden_first": True},
]  # fmt: skip


@pytest.mark.parametrize("switch", SWITCHES, ids=str)
def test_what_a_yaml_file_says_of_departures(switch: dict[str, object], tmp_path: Path) -> None:
    network = Network(EncodingOrder(), EncodingOrder(), skip=True, sharp=0.2, **switch)
    path = saved(network, tmp_path)
    assert_computes(import_field(path, BOX, layers=said(**switch)), network)
    with pytest.raises(AssertionError):  # it makes a difference
        assert_computes(import_field(path, BOX, layers=said()), network)
    memonf.save(import_field(path, BOX, layers=said(**switch)), tmp_path / "f.safetensors")
    assert_computes(memonf.load(tmp_path / "f.safetensors"), network)


def plain() -> Network:
    return Network(EncodingOrder(), EncodingOrder())


def test_rows_of_a_layer_may_be_meant(tmp_path: Path) -> None:
    network = plain()
    state = network.state_dict()
    joined = {part: torch.cat([state.pop(f"sigma.{part}"), state.pop(f"feat.{part}")])
              for part in ("weight", "bias")}  # fmt: skip
    torch.save(state | {f"head.{part}": value for part, value in joined.items()},
               tmp_path / "n.pt")  # fmt: skip
    layers = said(density="head[0]", feature="head[1:]")
    assert_computes(import_field(tmp_path / "n.pt", BOX, layers=layers), network)
    with pytest.raises(FieldFileError, match=r"`head\[9:12\]`: expected 1 rows, received 2"):
        import_field(tmp_path / "n.pt", BOX, layers=said(density="head[9:12]", feature="head[1:]"))


def test_a_view_branch_may_read_the_trunk_itself(tmp_path: Path) -> None:
    network = plain()
    with torch.no_grad():
        network.feat.weight.copy_(torch.eye(WIDTH))
        network.feat.bias.zero_()
    state = {name: value for name, value in network.state_dict().items() if "feat" not in name}
    torch.save(state, tmp_path / "n.pt")
    names = {key: value for key, value in NAMES.items() if key != "feature"}
    assert_computes(import_field(tmp_path / "n.pt", BOX, layers=read_hints(names, "y")), network)


@pytest.fixture(autouse=True)
def few_rays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small networks need fewer rays than users' do."""
    monkeypatch.setattr("memonf.io.importing.trial.FEW_RAYS", 64)
    monkeypatch.setattr("memonf.io.importing.trial.FEW_SAMPLES", 32)


@pytest.mark.parametrize("kind", ["kernel", "nested", "weight"])
def test_weights_that_jax_and_keras_wrote(kind: str, tmp_path: Path) -> None:
    network = plain()
    state: dict[str, object] = {}
    for name, value in network.state_dict().items():
        layer, _, part = name.partition(".")
        turned = (value.T if value.ndim == 2 else value).contiguous().numpy()
        part = "kernel" if part == "weight" != kind else part
        if kind == "nested":
            state.setdefault(layer, {})[part] = turned  # type: ignore[index]
        else:
            state[f"{layer}.{part}"] = turned
    torch.save({"params": state}, tmp_path / "n.pt")
    assert_computes(import_field(tmp_path / "n.pt", BOX, layers=said()), network)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_read(kind: torch.dtype, tmp_path: Path) -> None:
    network = plain()
    torch.save({k: v.to(kind) for k, v in network.state_dict().items()}, tmp_path / "n.pt")
    rounded = plain()
    rounded.load_state_dict({k: v.to(kind).float() for k, v in network.state_dict().items()})
    assert_computes(import_field(tmp_path / "n.pt", BOX, layers=said()), rounded)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update({"a.weight": s["a.weight"].to(torch.int8)}), "quantised weights mean"),
        (lambda s: s.update({"a.weight": s["a.weight"].to_sparse()}), "is a `torch._utils._rebuild_"
         "sparse_tensor`, not a plain tensor"),
        (lambda s: s.update({"c.weight": torch.zeros(WIDTH, 99)}), "reads 99 values"),
        (lambda s: s.update({"a.weight": s["a.weight"].double() * 1e300}), "NaN or infinity"),
        (lambda s: s.update({"c.weight_g": s.pop("c.weight")}), "`c.weight` is missing; `c.bias`, "
         "`c.weight_g` is there"),
    ],
)  # fmt: skip
def test_params_that_cannot_be_read_are_named(
    change: Callable[[dict[str, Tensor]], object], message: str, tmp_path: Path
) -> None:
    state = plain().state_dict()
    change(state)
    torch.save(state, tmp_path / "n.pt")
    with pytest.raises(FieldFileError, match=message):
        import_field(tmp_path / "n.pt", BOX, layers=said())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"order": "axis"}, "`order`: expected frequency-major, axis-major, wave-major, or a list"),
        ({"order": ["axis", "axis", "wave"]}, "`order`: expected"),
        ({"input": "middle"}, "`input`: expected first, last, each or absent, received 'middle'"),
        ({"factor": "tau"}, "`factor`: expected pi, 2pi or a number > 0, received 'tau'"),
        ({"factor": -1}, "`factor`: expected"),
        ({"direction_orders": "axis-major"}, "unknown key `direction_orders`: did you mean "
         "`direction_order`"),
        ({"density_activation": "gelu"}, "`density_activation`: expected relu, softplus, exp"),
        ({"cosines_first": "yes please"}, "`cosines_first`: expected true or false"),
        ({"state": 3}, "`state`: expected a name"),
        ({"trunk": []}, "`trunk`: expected one layer or more"),
    ],
)  # fmt: skip
def test_what_a_yaml_file_may_not_say(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        said(**values)


def test_an_input_that_is_said_otherwise_is_refused(tmp_path: Path) -> None:
    path = saved(plain(), tmp_path)
    with pytest.raises(FieldFileError, match="with the bare coordinates; `input: absent`"):
        import_field(path, BOX, layers=said(input="absent"))


# The trial -----------------------------------------------------------------------------------


def looked(network: nn.Module, **more: object) -> Look:
    """Rays that see what a network makes, by way of its rightly read field."""
    cameras = turntable(6, 24, 4.0, torch.zeros(3))
    views = torch.arange(6).repeat_interleave(60)
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.randint(0, 24, (2, 360), generator=generator)
    rays = cameras.rays(views, rows, columns)
    blank = Look(rays, torch.zeros(360, 3, dtype=torch.uint8), BOX, 2.0, 6.0)
    rgb, opacity = blank.light(network)
    pixels = rgb + (1 - opacity)[:, None]
    return dataclasses.replace(blank, pixels=(pixels * 255).round().to(torch.uint8), **more)


def right(order: EncodingOrder, directions: EncodingOrder | None = None, **more: object) -> Network:
    return Network(order, directions or order, **more)  # type: ignore[arg-type]


def field_of(network: Network, folder: Path, **more: object) -> ClassicNerf:
    words = network.positions.words() + ", " + network.directions.words("direction_")
    values = dict(part.split(": ", 1) for part in words.split(", "))
    parsed = {key: yaml.safe_load(value) for key, value in values.items()}
    layers = said(**{**parsed, **more})
    return import_field(saved(network, folder), BOX, layers=layers)  # type: ignore[return-value]


TURNED = EncodingOrder(("axis", "frequency", "wave"))


@pytest.mark.parametrize(
    ("network", "told", "words"),
    [
        (right(EncodingOrder()), {}, ""),
        (right(TURNED), {}, "order: axis-major, input: each"),
        (right(EncodingOrder(input="last", cosines_first=True)), {}, "cosines_first: true"),
        (right(EncodingOrder(factor=math.pi)), {}, "factor: pi"),
        (right(EncodingOrder(), TURNED), {}, "direction_order: axis-major"),
        (right(EncodingOrder(), EncodingOrder(negated=True)), {}, "direction_negated: true"),
        (right(EncodingOrder()), {"order": "axis-major"}, "order: frequency-major"),
        (right(EncodingOrder(), first_activation=False), {}, "first_activation: false"),
        (right(EncodingOrder(), feature_activation=True), {}, "feature_activation: true"),
        (right(EncodingOrder(factor=math.pi, loops=("wave", "axis", "frequency"))), {},
         "order: wave axis frequency, input: first"),
    ],
    ids=str,
)  # fmt: skip
def test_the_reading_that_makes_the_views_is_taken(
    network: Network, told: dict[str, object], words: str, tmp_path: Path
) -> None:
    more = {k: v for k, v in network.switches.items() if k.endswith("_activation")}
    field = field_of(network, tmp_path, **more)
    look = looked(field)
    net = read_net(tmp_path / "net.pth", layers=said(**told))
    verdict = try_readings(net, look, (1.0, 1.0, 1.0))
    assert verdict.fits
    assert words in verdict.changed
    assert bool(words) == bool(verdict.changed)
    assert verdict.psnr > verdict.baseline + 9
    assert_computes(verdict.net.field(BOX), network)
    assert len(verdict.tried) > 1
    assert verdict.tried[0].psnr == max(entry.psnr for entry in verdict.tried)


def test_nothing_is_taken_where_nothing_fits(tmp_path: Path) -> None:
    network = right(TURNED)
    look = looked(field_of(network, tmp_path))
    wrong = dataclasses.replace(look, pixels=look.pixels.flip(0).flip(1))
    net = read_net(tmp_path / "net.pth", layers=said())
    verdict = try_readings(net, wrong, (1.0, 1.0, 1.0))
    assert not verdict.fits
    assert verdict.changed == ""
    assert verdict.net.names == net.names


def test_the_background_is_found_unless_it_was_said(tmp_path: Path) -> None:
    field = field_of(right(EncodingOrder(), sharp=0.3), tmp_path)
    look = looked(field)
    rgb, _ = look.light(field)
    black = dataclasses.replace(look, pixels=(rgb * 255).round().to(torch.uint8))
    net = read_net(tmp_path / "net.pth", layers=said())
    assert try_readings(net, black, (1.0, 1.0, 1.0)).background == (0.0, 0.0, 0.0)
    said_so = try_readings(net, black, (1.0, 1.0, 1.0), other_backgrounds=False)
    assert said_so.background == (1.0, 1.0, 1.0)


def test_the_verb_tries_and_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memonf.io.importing.trial.RAYS", 160)
    monkeypatch.setattr("memonf.cli.import_.known", lambda field: None)
    network = right(TURNED)
    field = field_of(network, tmp_path)
    cameras = turntable(8, 16, 4.0, torch.zeros(3))
    frames = []
    (tmp_path / "set" / "images").mkdir(parents=True)
    for view in range(8):
        look = Look(cameras.view_rays(view), torch.zeros(1, 3), BOX, 2.0, 6.0)
        rgb, opacity = look.light(field)
        straight = torch.cat([rgb / opacity[:, None].clamp_min(1e-6), opacity[:, None]], -1)
        pixels = (straight.clamp(0, 1) * 255).round().to(torch.uint8).view(16, 16, 4).numpy()
        Image.fromarray(pixels).save(tmp_path / "set" / "images" / f"{view}.png")
        pose = np.vstack([cameras.camera_to_world[view].numpy(), [0, 0, 0, 1]])
        frames.append({"file_path": f"images/{view}", "transform_matrix": pose.tolist()})
    angle = math.radians(40.0)
    for split, part in (("train", frames[:6]), ("test", frames[6:])):
        (tmp_path / "set" / f"transforms_{split}.json").write_text(
            json.dumps({"camera_angle_x": angle, "frames": part})
        )
    (tmp_path / "names.yaml").write_text(yaml.safe_dump(NAMES))
    out = tmp_path / "o.safetensors"
    command = [
        "import", str(tmp_path / "net.pth"), "--layers", str(tmp_path / "names.yaml"), "--data",
        str(tmp_path / "set"), "--box", "-1", "-1", "-1", "1", "1", "1", "--out", str(out),
    ]  # fmt: skip
    assert main(command) == 0
    printed = capsys.readouterr()
    assert "dB  order: axis-major, input: each" in printed.out
    assert "dB  as said" in printed.out
    assert "was read otherwise than said" in printed.err
    imported = memonf.load(out)
    assert_computes(imported, network)
    net = read_net(tmp_path / "net.pth", layers=said())
    assert imported.record.training["read_as"] == "order: axis-major, input: each"
    # Where nothing fits it is imported as said, with a warning.
    unfit = dataclasses.replace(
        try_readings(net, looked(field), (1.0,) * 3), fits=False, changed=""
    )
    monkeypatch.setattr("memonf.cli.import_.try_readings", lambda *_, **__: unfit)
    assert main([*command, "--json"]) == 0
    printed = capsys.readouterr()
    assert "WARNING: no reading of the params makes the training views" in printed.err
    found = json.loads(printed.out)
    assert not found["fits"]
    assert found["net"] == "only"
    assert any(entry["reading"] == "as said" for entry in found["tried"])
    assert memonf.load(out).record.training["read_as"] == ""
