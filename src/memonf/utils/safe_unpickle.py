"""Pickles as data: a machine that follows their opcodes and never looks a name up.

Python's own unpickler imports what a pickle names and calls it. Here a name stays a `Name`, and
whatever a pickle makes of it (calls, objects, their state) becomes a `PickledObject`: an inert
record of the class, its arguments, state and items. Containers, numbers, texts, NumPy arrays and
scalars are built by the functions in `BUILDERS`; callers add their own, as `memonf.io.importing`
does for tensors. Nothing in the stream decides what is called.
"""

from __future__ import annotations

import math
import mmap
import pickle
import pickletools
import re
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import IO, Any, TypeAlias, cast

import numpy as np

from ..errors import shown

__all__ = [
    "BUILDERS",
    "Builder",
    "Name",
    "PickledObject",
    "Stream",
    "load_arrays",
    "short",
    "unpickle",
]

#: What pickles are read from: streams that hand out no more than they have, whatever is asked for.
Stream: TypeAlias = BytesIO | mmap.mmap

#: Opcodes of one pickle; a checkpoint has some thousands, and each takes about a microsecond.
MOST_OPCODES = 5_000_000
#: What builders may copy in all, elements and bytes, a byte of the stream; and a little more. A
#: pickle can name one long list a million times.
COPIES, SMALL = 8, 1 << 16
#: Modules that Python 2 called otherwise.
OLD_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}
MOST_AXES = 16
#: Characters of a name that messages have.
MOST_SHOWN = 80
#: Kinds and sizes of numbers in arrays: bool, int, unsigned, float, complex.
NUMBERS = re.compile(r"[<>=|]?[biufc?](1|2|4|8|16)?")


def short(name: object) -> str:
    """A name out of a file as messages have it: on one line, not too long."""
    text = shown(str(name)[:MOST_SHOWN])
    return text if len(str(name)) <= MOST_SHOWN else f"{text}..."


@dataclass(frozen=True)
class Name:
    """What a pickle calls a class or function; nothing is imported.

    Attributes:
        module: As in the file.
        name: Dotted for what stands in a class.
    """

    module: str
    name: str

    def __str__(self) -> str:
        return short(f"{self.module}.{self.name}")


class PickledObject:
    """An object that is kept as a record, since building it would run code.

    Attributes:
        kind: Name of its class, or of the function that would have made it.
        args: What that would have been called with.
        state: What would have become its attributes; an empty mapping if there are none.
        items: Entries, of subclasses of dict.
        elements: Elements, of subclasses of list and set.
        reason: Why it was not built, where a builder tried.
    """

    __slots__ = ("args", "elements", "items", "kind", "reason", "state")

    def __init__(self, kind: object, args: Any = (), reason: str = "") -> None:
        self.kind, self.args, self.reason = str(kind), args, reason
        self.state: Any = {}
        self.items: dict[Hashable, Any] = {}
        self.elements: list[Any] = []

    def __repr__(self) -> str:
        return f"<{self.kind}>"


class PendingArray(PickledObject):
    """An array whose content follows as its state."""


class ArrayType(PickledObject):
    """A NumPy dtype of numbers or of objects."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """As NumPy's own, of numbers alone.

        Raises:
            ValueError: It is of records, texts, dates or objects.
        """
        code, order = self.args[0], ""
        if isinstance(self.state, tuple) and len(self.state) > 1 and self.state[1] in tuple("<>|="):
            order = self.state[1]
        if not isinstance(code, str) or not NUMBERS.fullmatch(code):
            raise ValueError(f"an array of `{short(code)}`, which are no numbers")
        return np.dtype(order + code.lstrip("<>=|") if order else code)


#: Makes an object of the arguments that a pickle gives for it; what it raises is the reason why the
#: object stays a `PickledObject`.
Builder: TypeAlias = Callable[..., Any]


def numpy_array(content: Any, dtype: Any, shape: Any, order: str) -> np.ndarray | list[Any]:
    """An array of raw bytes; one of objects becomes a list."""
    if len(shape) > MOST_AXES:
        raise ValueError(f"an array of {len(shape)} axes")
    shape = tuple(whole(length) for length in shape)
    if isinstance(dtype, ArrayType) and dtype.args[0] in ("O", "O8", "|O"):
        if not isinstance(content, list) or len(content) != math.prod(shape):
            raise ValueError("an array of objects whose number does not fit its shape")
        return content
    if not isinstance(dtype, ArrayType):
        raise ValueError("an array of an unknown kind of numbers")
    if isinstance(content, str):  # how Python 2 wrote bytes
        content = content.encode("latin1")
    kind = dtype.dtype
    if len(content) != math.prod(shape) * kind.itemsize:
        raise ValueError(f"an array of shape {shape} in {len(content)} bytes")
    return np.frombuffer(content, dtype=kind).reshape(shape, order="F" if order == "F" else "C")


def whole(value: Any) -> int:
    """A whole number >= 0 of a shape."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"a length of {short(repr(value))}")
    return value


def pending_array(kind: Any, shape: Any, code: Any) -> PendingArray:
    """What NumPy's pickles begin an array with."""
    if kind != Name("numpy", "ndarray"):
        raise ValueError(f"an array of class {kind}")
    return PendingArray(kind)


def array_type(code: Any, *_: Any) -> ArrayType:
    """A dtype; its byte order follows as its state."""
    if isinstance(code, Name):
        raise ValueError(f"numbers of kind {code}")
    return ArrayType("numpy.dtype", (code,))


def numpy_scalar(dtype: ArrayType, content: Any = b"") -> Any:
    """A NumPy scalar as Python's own number."""
    if isinstance(content, str):
        content = content.encode("latin1")
    (value,) = np.frombuffer(content, dtype=dtype.dtype)
    return value.item()


def encoded(text: str, encoding: str = "latin1") -> bytes:
    """How old protocols write bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("bytes in another form than pickle writes them")
    return text.encode("latin1")


def mapping(*args: Any) -> dict[Hashable, Any]:
    """A mapping of pairs, or of another mapping."""
    made: dict[Hashable, Any] = {}
    for entries in args:
        pairs = entries.items() if isinstance(entries, dict) else entries
        for pair in pairs:
            value_of, value = pair
            made[key(value_of)] = value
    return made


def listed(values: Any = (), *_: Any) -> list[Any]:
    """A list of the values of a list, tuple or mapping."""
    if not isinstance(values, (list, tuple, dict)):
        raise ValueError("a list of something that is no list")
    return list(values)


def path_text(*parts: Any) -> str:
    """A path as text."""
    if not all(isinstance(part, str) for part in parts):
        raise ValueError("a path that is not made of texts")
    return "/".join(parts).replace("//", "/")


def jax_array(_function: Any, _args: Any, state: Any, *_: Any) -> np.ndarray | list[Any]:
    """An array of JAX, which is one of NumPy within."""
    _, shape, dtype, fortran, content = state
    return numpy_array(content, dtype, shape, "F" if fortran else "C")


ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
#: (module, name) -> what stands in for it. Texts, numbers, containers, arrays; no more.
BUILDERS: Mapping[tuple[str, str], Builder] = {
    ("_codecs", "encode"): encoded,
    ("builtins", "bytes"): lambda content=b"": bytes(content[:]),  # old protocols have no b""
    ("builtins", "bytearray"): lambda content=b"", encoding="latin1": (
        encoded(content, encoding) if isinstance(content, str) else bytes(content[:])),
    ("builtins", "complex"): lambda real, imag: complex(float(real), float(imag)),
    ("builtins", "dict"): mapping,
    ("collections", "OrderedDict"): mapping,
    ("collections", "Counter"): mapping,
    ("collections", "defaultdict"): lambda factory=None, *args: mapping(*args),
    ("collections", "deque"): listed,
    ("builtins", "list"): listed,
    ("builtins", "set"): listed,
    ("builtins", "frozenset"): listed,
    ("builtins", "tuple"): lambda values=(): tuple(listed(values)),
    ("numpy", "dtype"): array_type,
    **{(module, "_reconstruct"): pending_array for module in ARRAY_MODULES},
    **{(module, "scalar"): numpy_scalar for module in ARRAY_MODULES},
    ("numpy.core.numeric", "_frombuffer"): numpy_array,
    ("numpy._core.numeric", "_frombuffer"): numpy_array,
    ("jax._src.array", "_reconstruct_array"): jax_array,
    **{(module, name): path_text
       for module in ("pathlib", "pathlib._local")
       for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path")},
}  # fmt: skip


def key(value: Any) -> Hashable:
    """A key of a mapping: anything else than texts and numbers is known by its identity.

    Tuples are not hashed by their content: nested in each other, they take exponential time.
    """
    if isinstance(value, int) and abs(value) >> 63:
        return str(value) if value.bit_length() < 4096 else "a long number"
    if isinstance(value, (str, bytes, int, float, Name, PickledObject)) or value is None:
        return value
    return PickledObject("a key", (value,))


class Machine:
    """Stack, marks and memo of one pickle.

    Args:
        builders: (module, name) -> function that stands in for it.
        persistent: Gives what a persistent id stands for; None refuses them.
        most_copied: Elements and bytes that builders may copy in all.
    """

    def __init__(
        self,
        builders: Mapping[tuple[str, str], Builder],
        persistent: Callable[[Any], Any] | None,
        most_copied: int,
    ) -> None:
        self.builders, self.persistent, self.most_copied = builders, persistent, most_copied
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        #: Places in the memo of arrays that are not whole yet.
        self.pending: dict[int, list[int]] = {}
        self.copied = 0

    def run(self, stream: Stream) -> Any:
        """Follow the opcodes to the first STOP; the stream stands behind it then.

        Raises:
            pickle.UnpicklingError: The pickle is broken, or too long.
        """
        for count, (opcode, argument, _) in enumerate(pickletools.genops(cast(IO[bytes], stream))):
            if count > MOST_OPCODES:
                raise pickle.UnpicklingError(f"more than {MOST_OPCODES} opcodes")
            name = opcode.name
            if name in CONSTANTS:
                self.stack.append(CONSTANTS[name](argument))
            elif name == "STOP":
                return self.pop()
            elif name not in IGNORED:
                step = STEPS.get(name)
                if step is None:
                    raise pickle.UnpicklingError(f"opcode {name}, which no file of data has")
                step(self, argument)
        raise pickle.UnpicklingError("it ends before its end")

    def pop(self) -> Any:
        """Take the top of the stack, above the last mark."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise pickle.UnpicklingError("a stack that is empty")
        return self.stack.pop()

    def top(self) -> Any:
        """Look at the top of the stack."""
        value = self.pop()
        self.stack.append(value)
        return value

    def since_mark(self) -> list[Any]:
        """Take all that was put on the stack since the last mark."""
        if not self.marks:
            raise pickle.UnpicklingError("a mark that is missing")
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def pop_or_mark(self) -> None:
        """Opcode POP: the top, or the mark if it lies there."""
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.pop()

    def put(self, place: int) -> None:
        """Remember the top of the stack."""
        value = self.top()
        self.memo[place] = value
        if isinstance(value, PendingArray):
            self.pending.setdefault(id(value), []).append(place)

    def get(self, place: int) -> None:
        """Put what is remembered on the stack."""
        if place not in self.memo:
            raise pickle.UnpicklingError(f"a memo without place {place}")
        self.stack.append(self.memo[place])

    def made(self, kind: Any, args: Any) -> Any:
        """What stands for `kind(*args)`: of a builder's making, or a record."""
        if not isinstance(args, tuple):
            raise pickle.UnpicklingError("arguments that are no tuple")
        builder = None
        if isinstance(kind, Name):
            where = (OLD_MODULES.get(kind.module, kind.module), kind.name)
            builder = self.builders.get(where)
            if where in (("copyreg", "_reconstructor"), ("copyreg", "__newobj__")) and args:
                kind = args[0]
        if builder is None:
            return PickledObject(kind if isinstance(kind, Name) else "an object", args)
        self.count(args)
        try:
            return builder(*args)
        except Exception as error:
            return PickledObject(kind, args, reason=short(error) or type(error).__name__)

    def count(self, args: tuple[Any, ...]) -> None:
        """Add up what builders copy: a pickle can have one long list copied a million times."""
        for value in args:
            if isinstance(value, (list, tuple, dict, str, bytes)):
                self.copied += len(value)
            else:
                self.copied += getattr(value, "nbytes", 0)
        if self.copied > self.most_copied:
            raise pickle.UnpicklingError("it unpacks to far more than it is")

    def build(self, state: Any) -> None:
        """Opcode BUILD: the state of an object becomes that of its record."""
        value = self.top()
        if isinstance(value, PendingArray):
            self.stack[-1] = array = self.finished(value, state)
            for place in self.pending.pop(id(value), []):
                self.memo[place] = array
        elif isinstance(value, PickledObject):
            value.state = state
        # Containers keep their entries alone: attributes of an OrderedDict are nobody's params.

    def finished(self, value: PendingArray, state: Any) -> Any:
        """An array with the content that its state holds."""
        try:
            _, shape, dtype, fortran, content = state
            return numpy_array(content, dtype, shape, "F" if fortran else "C")
        except Exception as error:
            return PickledObject(value.kind, reason=short(error) or type(error).__name__)

    def append(self, values: list[Any]) -> None:
        """Opcodes APPEND, APPENDS and ADDITEMS."""
        target = self.top()
        elements = target.elements if isinstance(target, PickledObject) else target
        if not isinstance(elements, list):
            raise pickle.UnpicklingError("elements for something that is no list")
        elements.extend(values)

    def set_items(self, values: list[Any]) -> None:
        """Opcodes SETITEM and SETITEMS."""
        target = self.top()
        items = target.items if isinstance(target, PickledObject) else target
        if not isinstance(items, dict) or len(values) % 2:
            raise pickle.UnpicklingError("entries for something that is no mapping")
        items.update(zip(map(key, values[::2]), values[1::2], strict=True))

    def mapping_since_mark(self) -> dict[Hashable, Any]:
        """Opcode DICT."""
        values = self.since_mark()
        if len(values) % 2:
            raise pickle.UnpicklingError("a key without a value")
        return dict(zip(map(key, values[::2]), values[1::2], strict=True))

    def named(self, module: Any, name: Any) -> Name:
        """A name, which is not looked up."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise pickle.UnpicklingError("a name that is no text")
        return Name(module, name)

    def found(self, ident: Any) -> Any:
        """What a persistent id stands for."""
        if self.persistent is None:
            raise pickle.UnpicklingError("a persistent id, which stands for nothing here")
        return self.persistent(ident)


def reduce(machine: Machine, _: Any) -> None:
    """Opcodes REDUCE and NEWOBJ: callable or class, and arguments."""
    args = machine.pop()
    kind = machine.pop()
    machine.stack.append(machine.made(kind, args))


def reduce_with_names(machine: Machine, _: Any) -> None:
    """Opcode NEWOBJ_EX: class, arguments, arguments by name."""
    by_name = machine.pop()
    args = machine.pop()
    kind = machine.pop()
    if by_name:
        machine.stack.append(PickledObject(kind if isinstance(kind, Name) else "an object", args))
    else:
        machine.stack.append(machine.made(kind, args))


def instance(machine: Machine, name: str) -> None:
    """Opcode INST: arguments since the mark, the class in the opcode."""
    values = machine.since_mark()
    machine.stack.append(machine.made(machine.named(*name.split(" ", 1)), tuple(values)))


def instance_on_stack(machine: Machine, _: Any) -> None:
    """Opcode OBJ: class and arguments since the mark."""
    values = machine.since_mark()
    if not values:
        raise pickle.UnpicklingError("an object without a class")
    machine.stack.append(machine.made(values[0], tuple(values[1:])))


def stack_global(machine: Machine, _: Any) -> None:
    """Opcode STACK_GLOBAL: module and name from the stack."""
    name = machine.pop()
    module = machine.pop()
    machine.stack.append(machine.named(module, name))


def tuple_of(count: int) -> Callable[[Machine, Any], None]:
    """Opcodes TUPLE1 to TUPLE3."""

    def step(machine: Machine, _: Any) -> None:
        values = [machine.pop() for _ in range(count)]
        machine.stack.append(tuple(reversed(values)))

    return step


def set_item(machine: Machine, _: Any) -> None:
    """Opcode SETITEM."""
    value = machine.pop()
    machine.set_items([machine.pop(), value])


#: Opcodes that put a constant on the stack.
CONSTANTS: dict[str, Callable[[Any], Any]] = {
    **{name: lambda value: value for name in (
        "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
        "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
        "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8")},
    "NONE": lambda _: None, "NEWTRUE": lambda _: True, "NEWFALSE": lambda _: False,
    "EMPTY_LIST": lambda _: [], "EMPTY_TUPLE": lambda _: (), "EMPTY_DICT": lambda _: {},
    "EMPTY_SET": lambda _: [],
    **{name: lambda code: PickledObject(f"the copyreg extension {code}")
       for name in ("EXT1", "EXT2", "EXT4")},
}  # fmt: skip
IGNORED = {"PROTO", "FRAME"}
#: The other opcodes; sets are kept as lists.
STEPS: dict[str, Callable[[Machine, Any], Any]] = {
    "MARK": lambda m, _: m.marks.append(len(m.stack)),
    "POP": lambda m, _: m.pop_or_mark(),
    "POP_MARK": lambda m, _: m.since_mark(),
    "DUP": lambda m, _: m.stack.append(m.top()),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), Machine.get),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), Machine.put),
    "MEMOIZE": lambda m, _: m.put(len(m.memo)),
    "LIST": lambda m, _: m.stack.append(m.since_mark()),
    "FROZENSET": lambda m, _: m.stack.append(m.since_mark()),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.since_mark())),
    "TUPLE1": tuple_of(1), "TUPLE2": tuple_of(2), "TUPLE3": tuple_of(3),
    "DICT": lambda m, _: m.stack.append(m.mapping_since_mark()),
    "APPEND": lambda m, _: m.append([m.pop()]),
    "APPENDS": lambda m, _: m.append(m.since_mark()),
    "ADDITEMS": lambda m, _: m.append(m.since_mark()),
    "SETITEM": set_item,
    "SETITEMS": lambda m, _: m.set_items(m.since_mark()),
    "GLOBAL": lambda m, name: m.stack.append(m.named(*name.split(" ", 1))),
    "STACK_GLOBAL": stack_global,
    "REDUCE": reduce, "NEWOBJ": reduce, "NEWOBJ_EX": reduce_with_names,
    "INST": instance, "OBJ": instance_on_stack,
    "BUILD": lambda m, _: m.build(m.pop()),
    "PERSID": lambda m, ident: m.stack.append(m.found(ident)),
    "BINPERSID": lambda m, _: m.stack.append(m.found(m.pop())),
}  # fmt: skip


def unpickle(
    stream: Stream,
    builders: Mapping[tuple[str, str], Builder] = BUILDERS,
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """Read one pickle as data.

    Args:
        stream: Stands at the beginning of the pickle, and behind it afterwards. It must hand out no
            more than it has: a file that claims gigabytes is not given them (`io.BytesIO`, `mmap`).
        builders: What stands in for the names that are known.
        persistent: Gives what a persistent id stands for.

    Raises:
        pickle.UnpicklingError: The pickle is broken.
        Exception: Of other kinds, where it is broken; see `memonf.errors.decoding`.
    """
    start = stream.tell()
    length = stream.seek(0, 2) or stream.tell()
    stream.seek(start)
    return Machine(builders, persistent, COPIES * (length - start) + SMALL).run(stream)


def load_arrays(stream: IO[bytes]) -> Any:
    """Mappings, lists, texts, numbers and arrays of a pickle that holds nothing else.

    Raises:
        pickle.UnpicklingError: It holds anything else, which is named.
        Exception: Of any kind, where it is broken; see `memonf.errors.decoding`.
    """
    content = unpickle(BytesIO(stream.read()))  # a file would take memory for what opcodes claim
    waiting, seen = [content], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, (Name, PickledObject)):
            kind = str(value) if isinstance(value, Name) else value.kind
            why = f": {value.reason}" if isinstance(value, PickledObject) and value.reason else ""
            raise pickle.UnpicklingError(f"it asks for `{kind}`, which is code{why}")
        if isinstance(value, (dict, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            waiting += [*value, *value.values()] if isinstance(value, dict) else value
    return content
