"""Names of field architectures and merge methods, found by one scan of a package.

A registry knows the package of the project's own classes. The first look-up imports every module of
it once, so a new architecture or method is one new file. Packages of third parties join through an
entry-point group, whose name is a promise that no move of a module breaks.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from ..errors import InputError, nearest

__all__ = ["Registry"]

T = TypeVar("T")


class Registry(Generic[T]):
    """A mapping from name to class, filled by decorators in the modules of one package.

    Args:
        kind: What is registered, for messages (``"field"``, ``"merge method"``).
        package: Dotted name of the package to scan.
        group: Entry-point group through which other packages join.
    """

    def __init__(self, kind: str, *, package: str, group: str) -> None:
        self.kind = kind
        self.package = package
        self.group = group
        self._classes: dict[str, type[T]] = {}
        self._scanned = False

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Class decorator: make the class known under `name` (also set as its ``name``)."""

        def add(cls: type[T]) -> type[T]:
            known = self._classes.get(name)
            if known is not None and known.__qualname__ != cls.__qualname__:
                raise InputError(
                    f"{cls.__module__}: {self.kind} `{name}` is already {known.__module__}; "
                    "choose another name"
                )
            cls.name = name  # type: ignore[attr-defined]
            self._classes[name] = cls
            return cls

        return add

    def __getitem__(self, name: str) -> type[T]:
        """Return the class called `name`.

        Raises:
            InputError: No such name; the message offers the nearest.
        """
        self._scan()
        if name not in self._classes:
            raise InputError(f"unknown {self.kind} `{name}`: {nearest(name, self)}")
        return self._classes[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over all names, sorted."""
        self._scan()
        return iter(sorted(self._classes))

    def __contains__(self, name: object) -> bool:
        self._scan()
        return name in self._classes

    def _scan(self) -> None:
        if self._scanned:
            return
        self._scanned = True
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        for entry in entry_points(group=self.group):
            entry.load()
