"""Imports the agent's modules out of the one file that a host has. Only builtins are used here.

A module is compiled when it is first imported, from the bytes that were read at the start: neither
another version of that file nor any other file can be mixed in.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import NoReturn


class PackedImporter:
    """Finds and runs modules; ``parts`` has each by its name, a package's ends with a slash."""

    def __init__(self, parts: Mapping[str, bytes]) -> None:
        self._parts = parts

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Where a module is; None where it is not one of ours (importlib.abc.MetaPathFinder)."""
        del path, target
        is_package = f"{name}/" in self._parts
        if not is_package and name not in self._parts:
            return None
        # Importing importlib.machinery would cost more than all that it is needed for.
        kind: type[ModuleSpec] = type(sys.__spec__)
        return kind(name, self, origin="agent", is_package=is_package)  # type: ignore[arg-type] # a loader by its methods

    def create_module(self, spec: ModuleSpec) -> None:
        """An ordinary module."""

    def exec_module(self, module: ModuleType) -> None:
        """Compiles and runs it."""
        name = module.__name__
        source = self._parts.get(name)
        if source is None:
            source = self._parts[f"{name}/"]
        # Without docstrings (optimize=2) it takes a fifth less time; there are no assertions in it.
        code = compile(source, f"agent/{name}", "exec", dont_inherit=True, optimize=2)
        exec(code, module.__dict__)  # noqa: S102 this is what importing is


def load(parts: Mapping[str, bytes]) -> Callable[..., NoReturn]:
    """The agent's entry, with all that it needs for any request imported.

    Raises:
        ImportError: the standard library lacks something.
    """
    sys.meta_path.insert(0, PackedImporter(parts))
    from deploytool.agent.__main__ import main

    return main
