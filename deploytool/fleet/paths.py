"""Where an inventory is located, what the paths in it mean, and how ``ssh`` is given them.

Every command asks here, ``stop`` too: so this imports next to nothing.
"""

from __future__ import annotations

import os
import pwd
import re
from contextlib import suppress
from pathlib import Path

_PLAIN = re.compile(r"/[A-Za-z0-9_./@+-]*")
_NOTHING = "/dev/null"


def folder_of(inventory: Path) -> Path:
    """The folder from which relative paths in an inventory are taken: where the file really is.

    An inventory that is reached by a symbolic link has its keys beside its target.
    """
    return Path(os.path.realpath(inventory)).parent


def located(folder: Path, text: str) -> Path:
    """Where a path that an inventory names is: from its ``folder``, or from a home (``~``)."""
    return folder / expand_home(text)


def expand_home(text: str) -> str:
    """``~`` and ``~user`` replaced by that account's home; unchanged where there is none such."""
    if not text.startswith("~"):
        return text
    user, slash, rest = text[1:].partition("/")
    found = home(user)
    return text if found is None else f"{found.rstrip('/')}{slash}{rest}" or "/"


def home(user: str = "") -> str | None:
    """The home that the account database names, as OpenSSH asks for it, and never ``$HOME``.

    In a container job the two may differ; then every command, ``ssh`` included, has to look for a
    key in the same one. ``user`` empty: our own. None where there is no such account.
    """
    try:
        return (pwd.getpwnam(user) if user else pwd.getpwuid(os.getuid())).pw_dir
    except (KeyError, ValueError):
        return None


class PlainNames:
    """Names under which ``ssh`` can be given any path: it expands, splits and unquotes none.

    In the paths of its configuration ssh(1) replaces ``%`` tokens and ``${VARIABLES}``, and splits
    at blanks; how any of that is escaped differs between its versions, and the second can't be
    escaped at all. A path that might be touched gets the name of a descriptor of this process
    instead (``/proc/PID/fd/N``): of its folder, or of the file where its own name is as odd. The
    names are good for as long as this object lives. A file with an odd name of its own that is
    replaced meanwhile is not seen; in an odd folder it is.
    """

    def __init__(self) -> None:
        self._held: dict[str, int] = {}

    def __del__(self) -> None:
        for descriptor in self._held.values():
            with suppress(OSError):
                os.close(descriptor)

    def of(self, path: str) -> str:
        """A plain name of a file; of an empty one where it is not there and has no plain name."""
        if _PLAIN.fullmatch(path):
            return path
        folder, _, name = path.rpartition("/")
        if name and _PLAIN.fullmatch(f"/{name}"):
            beside = self._held_as(folder or "/")
            return f"{beside}/{name}" if beside else _NOTHING
        return self._held_as(path) or _NOTHING

    def identity(self, path: str) -> tuple[str, ...]:
        """The options that offer a key as ``ssh`` does: with its public half and certificate.

        ``ssh`` looks for both beside it, by name; where it gets another name, they need one too.
        """
        given = self.of(path)
        options = [f"IdentityFile={given}"]
        if given.rpartition("/")[2] != path.rpartition("/")[2]:
            for key, beside in (("IdentityFile", ".pub"), ("CertificateFile", "-cert.pub")):
                if (name := self._held_as(f"{path}{beside}")) is not None:
                    options.append(f"{key}={name}")
        return tuple(options)

    def holding(self, text: str) -> str:
        """A plain name of a file in memory that holds ``text``, for as long as this object lives.

        Raises:
            OSError: this machine has no room for it.
        """
        descriptor = os.memfd_create("deploytool", os.MFD_CLOEXEC)
        self._held[f"memory {descriptor}"] = descriptor
        data = text.encode("utf-8", "surrogateescape")
        while data:
            data = data[os.write(descriptor, data) :]
        return f"/proc/{os.getpid()}/fd/{descriptor}"

    def _held_as(self, path: str) -> str | None:
        if path not in self._held:
            try:
                self._held[path] = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except (OSError, ValueError):
                return None
        return f"/proc/{os.getpid()}/fd/{self._held[path]}"
