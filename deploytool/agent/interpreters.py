"""Interpreters: programs that run a file which their arguments name. Pure.

Their names are a list, because nothing in a process says that it is one. A copy of the service's
own interpreter under another name is found by its digest (see ``acting``).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SHELLS = ("ash", "bash", "dash", "fish", "ksh", "mksh", "sh", "zsh")
_PYTHONS = ("pypy", "python")
_AWKS = ("awk", "gawk", "mawk")
_LOADERS = ("ld-linux", "ld-musl", "qemu")
"""They run a compiled program (ld.so(8))."""
_SCRIPTS = (
    "lua",
    "luajit",
    "node",
    "nodejs",
    "perl",
    "php",
    "r",
    "rscript",
    "ruby",
    "tclsh",
    "wish",
)
_MACHINES = ("bun", "deno", "dotnet", "erl", "escript", "guile", "java", "ld", "make", "mono")
_FAMILIES = frozenset((*_SHELLS, *_PYTHONS, *_AWKS, *_LOADERS, *_SCRIPTS, *_MACHINES))
"""By their names without versions."""
_INLINE: Mapping[str, str] = {
    "perl": "eE",
    "ruby": "e",
    "node": "ep",
    "nodejs": "ep",
    "php": "r",
    "lua": "e",
    "luajit": "e",
    **dict.fromkeys(_PYTHONS, "cm"),
    **dict.fromkeys(_SHELLS, "cs"),
}
"""Letters after which no script follows: the program is in the arguments, a module or the input."""
_VALUED: Mapping[str, str] = {
    "perl": "I",
    "ruby": "IrC",
    "node": "rC",
    "nodejs": "rC",
    "php": "cdz",
    "lua": "l",
    "luajit": "l",
    "make": "CIjlo",
    **dict.fromkeys(_PYTHONS, "WX"),
    **dict.fromkeys(_AWKS, "Fv"),
    **dict.fromkeys(_SHELLS, "oO"),
}
"""Letters that take the next argument, unless something follows them in the same one."""
_SCRIPT_NEXT = {"java": "jar", "make": "f", "php": "f", **dict.fromkeys(_AWKS, "f")}
"""Options whose value is the script."""


def is_one(program: str, arguments: Sequence[str]) -> bool:
    """Whether an executable of this path, so called, is an interpreter."""
    return family(program, arguments) in _FAMILIES


def family(program: str, arguments: Sequence[str]) -> str:
    """An interpreter's name without its version: ``python`` of ``/usr/bin/python3.11``."""
    name = program.removesuffix(" (deleted)").rpartition("/")[2]
    if name == "busybox":  # it is what it was called as
        called = [word.rpartition("/")[2].lstrip("-") for word in arguments[:2]]
        name = next((word for word in called if word != "busybox"), "")
    name = name.lower()
    for loader in _LOADERS:
        if name.startswith(loader):
            return loader
    return name.partition("-")[0].rstrip("0123456789.")


LIBRARY_FOLDERS = (
    "/usr/lib",
    "/usr/lib64",
    "/usr/share",
    "/usr/local/lib",
    "/usr/local/lib64",
    "/usr/local/share",
)
_LIBRARIES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("node", "nodejs"), ("node_modules", "nodejs")),
    "java": ("jvm",),
    "rscript": ("R",),
    "r": ("R",),
}
"""What an interpreter's own folders are called, where that is not its name."""


def is_library(program: str, name: str) -> bool:
    """Whether a folder of this name has libraries of that interpreter, of its version.

    Of ``/usr/bin/python3.11`` those are ``python3.11`` and ``python3``, and not ``python3.9``.
    """
    kind, called = family(program, ()), program.rpartition("/")[2].lower()
    if name in _LIBRARIES.get(kind, ()):
        return True
    plain = name.rstrip("0123456789.")
    return kind in _FAMILIES and plain == kind and (called.startswith(name) or called == kind)


def scripts(program: str, arguments: Sequence[str]) -> tuple[str, ...] | None:
    """The arguments that may be the script: more than one where an option is not known.

    An empty tuple: it runs what is in its arguments, a module, or its input. None: the arguments
    end before that is told.
    """
    kind = family(program, arguments)
    applet = bool(arguments) and arguments[0].rpartition("/")[2] == "busybox"
    ahead = list(arguments[2 if applet else 1 :])
    found: list[str] = []
    may_be_values = 0
    while ahead:
        word = ahead.pop(0)
        if word == "--" or word.lstrip("-") == _SCRIPT_NEXT.get(kind):
            return (*found, *ahead[:1])
        if not word.startswith(("-", "+")):
            found.append(word)
            if len(found) > may_be_values:
                return tuple(found)
        elif word.startswith("--") or word in ("-cp", "-classpath"):
            may_be_values += "=" not in word
        elif _ends_options(word, kind):
            return tuple(found)
        elif _takes_next(word, kind):
            del ahead[:1]
    return tuple(found) or None


def _ends_options(word: str, kind: str) -> bool:
    """Whether letters such as ``-Ic`` say that no script follows. A value may have them too."""
    for letter in word[1:]:
        if letter in _VALUED.get(kind, ""):
            return False
        if letter in _INLINE.get(kind, ""):
            return True
    return word == "-"


def _takes_next(word: str, kind: str) -> bool:
    """Whether the first letter that takes a value is the last, so that it takes the next word."""
    for at, letter in enumerate(word[1:], 2):
        if letter in _VALUED.get(kind, ""):
            return at == len(word)
    return False
