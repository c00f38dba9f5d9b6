"""Pickles as data: nothing is looked up or called, and no claim takes memory or time."""

from __future__ import annotations

import argparse
import collections
import datetime
import io
import pathlib
import pickle
import pickletools
import struct
import subprocess
import sys
import textwrap
import time
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memonf.utils.safe_unpickle import Name, PickledObject, load_arrays, unpickle


def read(content: bytes) -> Any:
    return unpickle(io.BytesIO(content))


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | (
    st.binary())  # fmt: skip
DATA = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
    | st.tuples(inner, inner),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(DATA, st.integers(0, 5))
def test_plain_data_is_what_pickle_makes_of_it(data: Any, protocol: int) -> None:
    assert read(pickle.dumps(data, protocol)) == data


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_scalars_and_containers_are_built(protocol: int) -> None:
    arrays = [
        np.arange(12, dtype="<f4").reshape(3, 4), np.asfortranarray(np.eye(3, 2)),
        np.arange(3, dtype=">i2"), np.array(3.5), np.zeros((0, 4), np.uint8),
        np.float16([1.5, 2]),
    ]  # fmt: skip
    shared = [1, 2]
    data = {
        "arrays": arrays, "loss": np.float64(0.25), "step": np.int64(7), "flag": np.bool_(True),
        "counter": collections.Counter("aab"), "ordered": collections.OrderedDict(a=1),
        "default": collections.defaultdict(list, x=[1]), "path": pathlib.PurePosixPath("a/b"),
        "set": {3}, "deque": collections.deque([1, 2]), "complex": 1 + 2j, "bytes": bytearray(b"z"),
        "twice": [shared, shared],
    }  # fmt: skip
    found = read(pickle.dumps(data, protocol))
    for array, expected in zip(found["arrays"], arrays, strict=True):
        np.testing.assert_array_equal(array, expected)
    for key in ("loss", "step", "flag", "counter", "ordered", "default", "complex", "bytes"):
        assert found[key] == data[key], key
    assert found["path"] == "a/b"
    assert found["set"] == [3]
    assert found["deque"] == [1, 2]
    assert found["twice"][0] is found["twice"][1]


class Slotted:
    __slots__ = ("held",)


class Odd(dict):
    """A mapping with attributes, as configurations are."""


class WithArguments:
    def __getnewargs_ex__(self) -> tuple[tuple[int], dict[str, int]]:
        return (1,), {"b": 2}

    def __new__(cls, a: int = 0, *, b: int = 0) -> WithArguments:
        return super().__new__(cls)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_other_classes_become_records(protocol: int) -> None:
    slotted = Slotted()
    slotted.held = [1, 2]
    odd = Odd(a=1)
    odd.extra = "text"
    data = {
        "args": argparse.Namespace(lr=0.1, name="x"), "slotted": slotted, "odd": odd,
        "when": datetime.date(2020, 1, 2), "class": argparse.Namespace,
        argparse.ArgumentParser: "keyed by a class",
    }  # fmt: skip
    if protocol >= 2:
        data["new"] = WithArguments()
    found = read(pickle.dumps(data, protocol))
    assert found["args"].kind == "argparse.Namespace"
    assert found["args"].state == {"lr": 0.1, "name": "x"}
    assert found["slotted"].state == (None, {"held": [1, 2]})
    assert found["odd"].items == {"a": 1}
    assert found["odd"].state == {"extra": "text"}
    assert found["when"].kind == "datetime.date"
    assert found["class"] == Name("argparse", "Namespace")
    assert found[Name("argparse", "ArgumentParser")] == "keyed by a class"


def test_old_names_are_known() -> None:
    assert read(b"c__builtin__\nset\n((lp0\nI1\natR.") == [1]
    objects = read(
        b"ccopy_reg\n_reconstructor\n(cshop\nThing\nc__builtin__\nobject\nNtR(dS'a'\nI1\nsb."
    )
    assert objects.kind == "shop.Thing"
    assert objects.state == {"a": 1}


#: Pickles that would touch a file by way of one opcode after another. `{c}` is its path.
HOSTILE = {
    "reduce": b"cos\nsystem\n(S'touch {c}'\ntR.",
    "inst": b"(S'touch {c}'\nios\nsystem\n.",
    "obj": b"(cos\nsystem\nS'touch {c}'\no.",
    "newobj": b"\x80\x02cos\nsystem\nS'touch {c}'\n\x85\x81.",
    "newobj_ex": b"\x80\x04cos\nsystem\nS'touch {c}'\n\x85}\x92.",
    "stack_global": b"\x80\x04\x8c\x02os\x8c\x06system\x93S'touch {c}'\n\x85R.",
    "nested": b"\x80\x04\x8c\x08builtins\x8c\x0dexec.__call__\x93S'open(\"{c}\", \"w\")'\n\x85R.",
    "eval": b"c__builtin__\neval\n(S'open(\"{c}\", \"w\")'\ntR.",
    "getattr": b"c__builtin__\ngetattr\n(cos\npath\nS'os'\ntRp0\n0cos\nsystem\n(S'touch {c}'\ntR.",
    "build": b"cos\n_wrap_close\n)\x81}S'__setstate__'\ncos\nsystem\nsbS'touch {c}'\nb.",
    "setstate": b"ctypes\nFunctionType\n)R}(S'__setstate__'\ncos\nsystem\nubS'touch {c}'\nb.",
    "ordered": b"ccollections\nOrderedDict\n)R}S'__setstate__'\ncos\nsystem\nsbS'touch {c}'\nb.",
    "default": b"ccollections\ndefaultdict\n(cos\nsystem\ntRS'touch {c}'\nNs.",
    "loads": b"cpickle\nloads\n(S'cos\\nsystem\\n(S\"touch {c}\"\\ntR.'\ntR.",
    "import": b"cimportlib\nimport_module\n(S'antigravity'\ntR.",
    "torch_load": b"ctorch.serialization\nload\n(S'{c}'\ntR.",
    "hub": b"ctorch.hub\nload\n(S'{c}'\ntR.",
    "np_load": b"cnumpy\nload\n(S'{c}'\ntR.",
    "write": b"cpathlib\nPath\n(S'{c}'\ntRp0\ncpathlib\nPath.touch\n(g0\ntR.",
    "reconstruct": b"cnumpy._core.multiarray\n_reconstruct\n(cos\nsystem\n(I0\ntS'touch {c}'\ntR.",
    "from_type": b"ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\nNS'touch {c}'\n\x85}tR.",
    "extension": b"\x80\x02\x82\xf0S'touch {c}'\n\x85R.",
    "subprocess": b"csubprocess\nPopen\n((S'touch'\nS'{c}'\nltR.",
    "partial": b"cfunctools\npartial\n(cos\nsystem\nS'touch {c}'\ntR)R.",
    "map": b"c__builtin__\nlist\n(c__builtin__\nmap\n(cos\nsystem\n(S'touch {c}'\nltRtR.",
    "code": b"cmarshal\nloads\n(S'x'\ntR.",
    "dtype": b"cnumpy\ndtype\n(cos\nsystem\nI0\nI1\ntRS'touch {c}'\nb.",
    "key": b"}cos\nsystem\n(S'touch {c}'\ntRI1\ns.",
    "storage": b"ctorch.storage\n_load_from_bytes\n(cos\nsystem\n(S'touch {c}'\ntRtR.",
}  # fmt: skip


def files_of(content: bytes, folder: Path, name: str) -> list[Path]:
    """The pickle in every kind of file that holds one."""
    made = [folder / f"{name}_plain.pkl", folder / f"{name}_zip.pt", folder / f"{name}_old.pt",
            folder / f"{name}_list.npy"]  # fmt: skip
    made[0].write_bytes(content)
    torch.save({"a": torch.zeros(2)}, made[1])
    with zipfile.ZipFile(made[1]) as archive:
        entries = {entry: archive.read(entry) for entry in archive.namelist()}
    with zipfile.ZipFile(made[1], "w") as archive:
        for entry, old in entries.items():
            archive.writestr(entry, content if entry.endswith("data.pkl") else old)
    stream = io.BytesIO()
    torch.save({}, stream, _use_new_zipfile_serialization=False)
    old = stream.getvalue()
    stream.seek(0)
    for _ in range(3):  # magic number, version, machine
        list(pickletools.genops(stream))
    made[2].write_bytes(old[: stream.tell()] + content + pickle.dumps([], 2))
    header = io.BytesIO()
    np.save(header, np.array([None, None]), allow_pickle=True)
    made[3].write_bytes(header.getvalue()[: header.getvalue().index(b"\n") + 1] + content)
    return made


#: Reads files with every audited event written down, in a process of its own.
WATCHED = """
    import copyreg, os, sys
    from pathlib import Path
    import torch
    from memonf.errors import MemonfError
    from memonf.io.importing import import_field
    copyreg.add_extension("os", "system", 240)
    box = torch.tensor([[-1.0] * 3, [1.0] * 3])
    files = [Path(name) for name in sys.argv[1:]]
    kinds = {file.name.split("_")[-1]: file for file in files}
    def look(file):
        try:
            import_field(file, box)
        except MemonfError:
            pass
    for file in kinds.values():  # what is imported late is imported now
        look(file)
    events, allowed = [], {str(file) for file in files}
    quiet = ("object.__getattr__", "os.fspath", "sys._getframe", "mmap.__new__", "builtins.id")
    def hook(event, args):
        if event == "open" and str(args[0]) in allowed or event in quiet:
            return
        if event == "compile" and args[0].startswith(b"{'descr'"):
            return  # NumPy parses its header as a literal; running it would be another event
        events.append((event, str(args)[:200]))
    sys.addaudithook(hook)
    for file in files:
        look(file)
    found, events = list(events), []
    print(found)
    print("PROVED" if not found else "BROKEN", len(files))
"""


def test_hostile_pickles_touch_nothing(tmp_path: Path) -> None:
    """No event but the opening of the file itself: no import, call, process, other file."""
    canary = tmp_path / "canary"
    files = []
    for name, content in HOSTILE.items():
        text = content.replace(b"{c}", str(canary).encode())
        list(pickletools.genops(text))  # it is a pickle
        files += files_of(text, tmp_path, name)
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WATCHED), *map(str, files)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert f"PROVED {4 * len(HOSTILE)}" in ran.stdout, ran.stdout[-2000:] + ran.stderr[-2000:]
    assert not canary.exists()


def test_the_watch_sees_what_pickle_itself_would_do(tmp_path: Path) -> None:
    """The negative control: by Python's unpickler the canary is there."""
    canary = tmp_path / "canary"
    pickle.loads(HOSTILE["reduce"].replace(b"{c}", str(canary).encode()))
    assert canary.exists()


def many(opcodes: bytes, times: int) -> bytes:
    return b"".join([opcodes] * times)


BOMBS = {
    "memo": b"\x80\x02]r\xff\xff\xff\x7f.",
    "claimed_bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"x.",
    "claimed_text": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"x.",
    "claimed_long": b"\x80\x02\x8b" + struct.pack("<i", 1 << 30) + b"x.",
    "bytearray": b"\x80\x05\x96" + struct.pack("<Q", 1 << 50) + b"x.",
    "digits": b"I" + b"9" * 100_000 + b"\n.",
    "copies": b"\x80\x02(" + many(b"I1\n", 2000) + b"l\x85q\x00" + many(
        b"0cbuiltins\nlist\nh\x00R", 4000) + b".",
    "texts": b"\x80\x02X" + struct.pack("<I", 1 << 20) + b"x" * (1 << 20) + b"q\x000" + many(
        b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R0", 4000) + b"N.",
    "shape": b"\x80\x02cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
             b"(K\x01" + many(b"J\xff\xff\xff\x7f", 8) + b"tcnumpy\ndtype\nU\x02f8K\x00K\x01\x87R"
             b"\x89U\x00tb.",
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_claims_take_neither_memory_nor_time(name: str) -> None:
    tracemalloc.start()
    started = time.process_time()
    with suppress(pickle.UnpicklingError, ValueError):  # but no MemoryError, no RecursionError
        read(BOMBS[name])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60 << 20
    assert time.process_time() - started < 20


def test_nesting_is_no_recursion() -> None:
    deep = b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b"."
    assert isinstance(read(deep), list)
    shared = b"\x80\x02)" + b"\x85" * 0 + many(b"2\x86", 60) + b"."  # a tuple of 2^60 leaves
    assert isinstance(read(shared), tuple)
    keyed = b"\x80\x02})" + many(b"2\x86", 60) + b"K\x01s."  # as a key, it is not hashed
    (key,) = read(keyed)
    assert isinstance(key, PickledObject)


def test_broken_pickles_are_refused() -> None:
    for content in (
        b"", b".", b"0.", b"(.", b"t.", b"\x80\x02h\x05.", b"\x80\x02s.", b"N", b"\x97.", b"Px\n.",
        b"\x80\x02K\x01K\x02R.", b"\x80\x04K\x01K\x02\x93.", b"(o.",
    ):  # fmt: skip
        with pytest.raises((pickle.UnpicklingError, ValueError)):
            read(content)


def test_structured_arrays_are_refused_by_name() -> None:
    odd = np.zeros(2, dtype=[("a", "f4"), ("b", "i4")])
    found = read(pickle.dumps(odd))
    assert isinstance(found, PickledObject)
    with pytest.raises(pickle.UnpicklingError, match="asks for"):
        load_arrays(io.BytesIO(pickle.dumps({"x": odd})))
    objects = read(pickle.dumps(np.array([np.ones(2), None], dtype=object)))
    np.testing.assert_array_equal(objects[0], [1, 1])
