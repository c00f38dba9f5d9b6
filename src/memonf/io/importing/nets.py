"""Where in a checkpoint the params of a network are: under any key, prefix or module.

All tensors of a checkpoint are listed by their paths (``state_dict.nerf_fine.sigma.weight``). A net
is a prefix under which the layers of a code base stand, or those that a user names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch

from ...errors import FieldFileError, InputError
from ...fields.classic_nerf import ClassicNerf
from ...typing import Tensor
from ...utils.safe_unpickle import PickledObject, short
from .convert import converted
from .layer_names import CODE_BASES, Hints, LayerNames, layer_of, unwrapped

__all__ = ["Checkpoint", "Net", "find_net"]

#: Containers within containers, and visits of them: a file may hold one in itself.
DEEPEST, MOST_VISITS = 40, 200_000
#: Groups of tensors that messages tell apart.
MOST_GROUPS = 8
#: Beside a network: optimisers, schedules, averages and what trainers keep; never its layers.
BESIDE = re.compile(
    r"(?:^|\.)(?:\w*optim\w*|\w*sched\w*|callbacks|loops|hparams|hyper_parameters|\w*rng\w*"
    r"|(?:\w+_)?ema(?:_\w+)?|scaler|args|config)(?:\.|$)",
    re.IGNORECASE,
)
FINE = re.compile(r"(?<!de)(?<!re)fine", re.IGNORECASE)
COARSE = re.compile(r"coarse|network_fn", re.IGNORECASE)
#: Parts of a layer, by PyTorch's and by JAX's and Keras' names.
WEIGHTS = ("weight", "kernel")
#: Names for the arrays of bmild/nerf, in the order in which Keras lists them.
KERAS_TAIL = ("feature_linear", "views_linears.0", "rgb_linear", "alpha_linear")


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Attributes:
        where: What messages call the file.
        tensors: Path -> tensor, in the file's order.
        unread: Path -> object that was not built.
    """

    where: str
    tensors: Mapping[str, Tensor]
    unread: Mapping[str, PickledObject]

    @classmethod
    def of(cls, content: Any, where: str) -> Checkpoint:
        """List what is in nested mappings, lists, modules and records.

        Raises:
            FieldFileError: They are nested too deep, or into each other.
        """
        walk = Walk(where)
        walk.visit(content, "", ())
        return cls(where, walk.tensors, walk.unread)

    def holds(self) -> str:
        """The tensors that are there, in words: the first of each group, and how many."""
        groups: dict[str, list[str]] = {}
        for path in self.tensors:
            groups.setdefault(path.partition(".")[0], []).append(path)
        if len(groups) > MOST_GROUPS:  # no group has a key of its own
            groups = {"": list(self.tensors)}
        parts = []
        for paths in groups.values():
            some = ", ".join(f"`{short(path)}`" for path in paths[:2])
            parts.append(f"{some}, ... ({len(paths)} tensors)" if len(paths) > 2 else some)
        return "; ".join(parts) or "no tensor at all"

    def code(self) -> str:
        """What the file asks for and was not run, for messages; empty if nothing."""
        kinds = dict.fromkeys(thing.kind for thing in self.unread.values())
        if not kinds:
            return ""
        first = ", ".join(f"`{kind}`" for kind in list(kinds)[:3])
        return f"; it asks for {first}, which is code; nothing was run"


class Walk:
    """Lists tensors by their paths.

    Args:
        where: What messages call the file.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self.tensors: dict[str, Tensor] = {}
        self.unread: dict[str, PickledObject] = {}
        self.visits = 0

    def visit(self, value: Any, path: str, above: tuple[int, ...]) -> None:
        """List what is at one path; `above` are the containers that it is in."""
        self.visits += 1
        if len(above) > DEEPEST or self.visits > MOST_VISITS:
            raise FieldFileError(f"{self.where}: containers that are nested too deep, or endlessly")
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
            value = torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("=")))
        if isinstance(value, Tensor):
            name = unwrapped(path)
            self.tensors[path if name in self.tensors else name] = value.detach()
        elif isinstance(value, (Mapping, list, tuple, PickledObject)) and id(value) not in above:
            if isinstance(value, PickledObject):
                self.unread[unwrapped(path)] = value
            for name, part in entries(value):
                self.visit(part, f"{path}.{name}" if path else name, (*above, id(value)))


def entries(value: Any) -> list[tuple[str, Any]]:
    """Names and parts of a container; a module's params, buffers and modules are its own."""
    if isinstance(value, Mapping):
        return [(str(key), part) for key, part in value.items()]
    if isinstance(value, (list, tuple)):
        return [(str(index), part) for index, part in enumerate(value) if is_container(part)]
    if value.kind.startswith("torch._utils."):
        return []  # a tensor that could not be built; its parts are no params
    found = [(str(key), part) for key, part in value.items.items()]
    found += entries(value.elements) + entries(value.args)
    states = value.state if isinstance(value.state, tuple) else (value.state,)
    for attributes in states:
        if isinstance(attributes, dict):
            found += attributes_of(attributes)
    return found


def attributes_of(attributes: Mapping[Any, Any]) -> list[tuple[str, Any]]:
    """Parts of an object; those of a module's own containers stand under its name alone."""
    found = []
    passing = attributes.get("_non_persistent_buffers_set", ())
    for key, part in attributes.items():
        if key in ("_parameters", "_buffers", "_modules") and isinstance(part, dict):
            kept = part.items() if key != "_buffers" else (
                (name, buffer) for name, buffer in part.items() if name not in passing)  # fmt: skip
            found += [(str(name), inner) for name, inner in kept]
        elif not str(key).startswith("_") and is_container(part):
            found.append((str(key), part))
    return found


def is_container(value: Any) -> bool:
    """Whether there may be tensors in it."""
    return isinstance(value, (Tensor, np.ndarray, Mapping, list, tuple, PickledObject))


@dataclass(frozen=True)
class Net:
    """One network of a checkpoint.

    Attributes:
        state: Name -> tensor, without the prefix.
        names: Its layers.
        kind: ``fine``, ``coarse``, or ``only`` for a net of which the file does not say it.
        prefix: Where in the file it is.
        where: What messages call the file.
        notes: What was chosen, a sentence each.
        unread: Name -> object that stands where a tensor was expected.
    """

    state: Mapping[str, Tensor]
    names: LayerNames
    kind: str
    prefix: str
    where: str
    notes: tuple[str, ...] = ()
    unread: Mapping[str, PickledObject] = field(default_factory=dict)

    def with_names(self, **changes: Any) -> Net:
        """The same params, read otherwise; `changes` as `LayerNames` has them."""
        return replace(self, names=replace(self.names, **changes))

    def field(self, aabb: Tensor) -> ClassicNerf:
        """The network as a field in a box (2, 3).

        Raises:
            FieldFileError: A layer is missing, of a shape that does not fit, or of no known use.
        """
        return converted(self.state, self.names, aabb, self.where, self.unread)


def find_net(checkpoint: Checkpoint, net: str, hints: Hints | None) -> Net:
    """The network that a user wants.

    Args:
        checkpoint: All that the file holds.
        net: ``fine`` or ``coarse``.
        hints: What the user says of the file.

    Raises:
        FieldFileError: No network of any known layers is there, or several that fit.
        InputError: What the user names is not there.
    """
    tensors = dict(checkpoint.tensors)
    if arrays := keras_arrays(tensors):
        tensors = named_keras(arrays, checkpoint.where)
    state_prefix = ""
    if hints is not None and hints.state:
        state_prefix = prefix_of(checkpoint, hints.state)
        tensors = {name: value for name, value in tensors.items() if name.startswith(state_prefix)}
    nets = candidates([*tensors, *checkpoint.unread], hints)
    if not nets:
        raise nothing_fits(checkpoint, hints)
    prefix, names, kind, notes = chosen(nets, net, hints, checkpoint)
    state = {name.removeprefix(prefix): value for name, value in tensors.items()
             if name.startswith(prefix) and not in_other_net(name, prefix, nets)}  # fmt: skip
    state = layers_alone(state, names, hints, prefix)
    unread = {name.removeprefix(prefix): thing for name, thing in checkpoint.unread.items()
              if name.startswith(prefix)}  # fmt: skip
    return Net(state, names, kind, prefix.rstrip("."), checkpoint.where, notes, unread)


def prefix_of(checkpoint: Checkpoint, wanted: str) -> str:
    """The prefix of a state that a user names: whole, or its end if that is unique.

    Raises:
        InputError: Nothing is there.
    """
    wanted = unwrapped(wanted.replace("/", ".").strip("."))
    prefixes = {
        name[:end]
        for name in checkpoint.tensors
        for end in [match.end() for match in re.finditer(r"\.", name)]
    }
    if f"{wanted}." in prefixes:
        return f"{wanted}."
    fitting = sorted(prefix for prefix in prefixes if prefix.endswith(f".{wanted}."))
    if len(fitting) == 1:
        return fitting[0]
    tops = sorted({prefix for prefix in prefixes if prefix.count(".") <= 2})[:8]
    raise InputError(
        f"{checkpoint.where}: `state: {short(wanted)}`: "
        + (f"is under several: {', '.join(fitting[:4])}" if fitting else "no tensor is there")
        + f"; it holds {', '.join(f'`{short(top[:-1])}`' for top in tops) or checkpoint.holds()}"
    )


#: Prefix, layers, kind of net.
Candidate = tuple[str, LayerNames, str]


def candidates(tensors: Sequence[str], hints: Hints | None) -> list[Candidate]:
    """Prefixes under which layers of the user's, or of a code base, stand."""
    found: dict[str, LayerNames] = {}
    if hints is not None and hints.names_layers:
        names = hints.names(None)
        first = layer_of(names.trunk[0])
        for tensor in tensors:
            for part in WEIGHTS:
                if tensor == f"{first}.{part}" or tensor.endswith(f".{first}.{part}"):
                    found[tensor.removesuffix(f"{first}.{part}")] = names
        if found:  # names may stand under several prefixes by chance: those that hold most
            fits = {prefix: names.share(tensors, prefix) for prefix in found}
            found = {p: n for p, n in found.items() if fits[p] == max(fits.values())}
    else:
        for code_base in CODE_BASES:
            assert isinstance(code_base.trunk, str)
            pattern = re.compile(rf"((?:.*\.)?){code_base.trunk}\.(?:weight|kernel)")
            counts: dict[str, int] = {}
            for tensor in tensors:
                if (match := pattern.fullmatch(tensor)) is not None:
                    counts[match[1]] = counts.get(match[1], 0) + 1
            for prefix, count in counts.items():
                if count > 1:
                    found[prefix] = code_base if hints is None else hints.names(code_base)
    kinds = {prefix: kind_of(prefix + common_prefix(names)) for prefix, names in found.items()}
    return [(prefix, names, kinds[prefix]) for prefix, names in found.items()]


def common_prefix(names: LayerNames) -> str:
    """The dotted prefix that all layers of a user have; empty for patterns."""
    if isinstance(names.trunk, str):
        return ""
    parts = [layer_of(name).split(".")[:-1] for name in names.all_layers()]
    common = []
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        common.append(level[0])
    return "".join(f"{part}." for part in common)


def kind_of(prefix: str) -> str:
    """Whether a prefix names the fine or the coarse net; ``only`` if neither."""
    if FINE.search(prefix):
        return "fine"
    return "coarse" if COARSE.search(prefix) else "only"


def chosen(
    nets: list[Candidate], net: str, hints: Hints | None, checkpoint: Checkpoint
) -> tuple[str, LayerNames, str, tuple[str, ...]]:
    """The net that is wanted, or the only one there is, with what has to be said of it."""
    said = ", ".join(f"`{called(prefix)}` ({kind})" for prefix, _, kind in nets)
    own = [entry for entry in nets if not BESIDE.search(entry[0])] or nets
    notes: tuple[str, ...] = ()
    if len(own) < len(nets):
        left = ", ".join(f"`{called(entry[0])}`" for entry in nets if entry not in own)
        notes = (
            f"{left} holds the network too, perhaps an average; `state:` in --layers takes it",
        )
    wanted = [entry for entry in own if entry[2] == net]
    others = [entry for entry in own if entry[2] == "only"] or own
    if len(wanted) == 1:
        return (*wanted[0], notes)
    if not wanted and len(others) == 1:
        prefix, names, kind = others[0]
        if net == "coarse" and kind == "fine":
            raise FieldFileError(f"{checkpoint.where}: holds no coarse net, but {said}")
        if hints is None or not (hints.state or hints.names_layers):
            notes += (
                ("the file does not say whether its net is fine or coarse",) if kind == "only"
                else (f"the file holds no {net} net: its {kind} net was taken",)
            )  # fmt: skip
        return prefix, names, kind, notes
    raise FieldFileError(
        f"{checkpoint.where}: holds {len(nets)} nets, {said}; say which by `state: "
        f"{called(nets[0][0])}` in a YAML file, --layers"
    )


def called(prefix: str) -> str:
    """A prefix for messages."""
    return short(prefix.rstrip(".") or "(top)")


def in_other_net(name: str, prefix: str, nets: list[Candidate]) -> bool:
    """Whether a tensor belongs to a net that lies within this one's prefix."""
    return any(
        name.startswith(other) for other, _, _ in nets if other != prefix
        and other.startswith(prefix)
    )  # fmt: skip


def layers_alone(
    state: Mapping[str, Tensor], names: LayerNames, hints: Hints | None, prefix: str
) -> dict[str, Tensor]:
    """Without what lies beside the network, and what the user says to ignore."""
    scope = common_prefix(names)
    ignored = hints.ignore if hints is not None else ()
    used = {layer_of(name) for name in names.all_layers()} if scope == "" else set()
    kept = {}
    for name, value in state.items():
        layer = name.rpartition(".")[0]
        outside = not name.startswith(scope) or (bool(BESIDE.search(name)) and layer not in used)
        if not outside and not any(matches(name, prefix, pattern) for pattern in ignored):
            kept[name] = value
    return kept


def matches(name: str, prefix: str, pattern: str) -> bool:
    """Whether a tensor, or what it is in, is called so; with or without the net's prefix."""
    return any(
        whole == pattern or whole.startswith(f"{pattern.rstrip('.')}.")
        or fnmatchcase(whole, pattern)
        for whole in (name, prefix + name)
    )  # fmt: skip


def nothing_fits(checkpoint: Checkpoint, hints: Hints | None) -> FieldFileError:
    """Why no network was found, and what the file holds."""
    if hints is not None and hints.names_layers:
        first = layer_of(hints.names(None).trunk[0])
        return FieldFileError(
            f"{checkpoint.where}: {hints.where} names `{short(first)}`, but no "
            f"`{short(first)}.weight` is there"
            + (f" under `{short(hints.state)}`" if hints.state else "")
            + f"; the file holds {checkpoint.holds()}{checkpoint.code()}"
        )
    known = ", ".join(names.name for names in CODE_BASES)
    return FieldFileError(
        f"{checkpoint.where}: its layers ({checkpoint.holds()}) are of no code base that is known "
        f"({known}); name them in a file, --layers{checkpoint.code()}"
    )


def keras_arrays(tensors: Mapping[str, Tensor]) -> list[Tensor]:
    """The arrays of a file that is nothing but a list of arrays; else none."""
    plain = all(re.fullmatch(r"(\d+\.)*\d+|", name) for name in tensors)
    return [value.float() for value in tensors.values()] if plain else []


def named_keras(arrays: Sequence[Tensor], where: str) -> dict[str, Tensor]:
    """Names for the arrays of bmild/nerf, in the order in which Keras lists them.

    Kernel and bias by turns: of the trunk's layers, then of feature, view layer, colour and
    density; of the one output layer where there is no view branch.

    Raises:
        FieldFileError: Another number of arrays, or no kernels and biases by turns.
    """
    pairs = list(zip(arrays[::2], arrays[1::2], strict=False))
    fits = len(arrays) % 2 == 0 and len(pairs) > 1
    if not fits or any(kernel.ndim != 2 or bias.ndim != 1 for kernel, bias in pairs):
        raise FieldFileError(
            f"{where}: expected kernels and biases by turns, received {len(arrays)} arrays"
        )
    plain = pairs[-1][1].shape[0] in (4, 5)
    tail = ("output_linear",) if plain else KERAS_TAIL
    depth = len(pairs) - len(tail)
    names = [*(f"pts_linears.{index}" for index in range(depth)), *tail]
    found = {}
    for name, (kernel, bias) in zip(names, pairs, strict=True):
        found[f"{name}.weight"], found[f"{name}.bias"] = kernel.T.contiguous(), bias
    return found
