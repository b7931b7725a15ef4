"""The host agent as the one file that a host gets: a shell script with Python behind it.

It is the same bytes wherever it is rendered, so that its digest is known before a host is asked:
sources in the order of their names, and no bytecode. What only people and type checkers read is
left out: each host would pay for it whenever the agent starts.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib import resources
from importlib.resources.abc import Traversable

from deploytool.agent.settings import Settings
from deploytool.fleet.model import Digest

MARKER = "#@AGENT@"
"""The line behind which Python begins; the shell never reads so far."""
_PACKAGE = "deploytool.agent"
_LOADER = f"{_PACKAGE}.loader"
_HEAD = """\
#!/bin/sh
# deploytool's agent for the service {name} of the fleet {fleet}: written by "deploytool host
# prepare". Do not edit: it is evidence. The only program that sudo lets the deploy account run as
# root; it takes no argument, and answers requests on its standard input. Behind the line {marker}
# follow, each as long as the lines after it say: settings in JSON, and modules of Python.
# shellcheck disable=SC2034 # the settings are read below
set -uf
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
umask 022
"""


def agent_file(settings: Settings) -> bytes:
    """The agent for one host."""
    shell = _HEAD.format(name=settings.name, fleet=settings.fleet, marker=MARKER)
    for name, value in _assignments(settings).items():
        shell += f"{name}={shlex.quote(value)}\n"
    shell += "".join(map(_text, ("last_rungs.sh", "trusted.sh", "stub.sh")))
    parts = {"settings": _json(settings), **_sources()}
    index = "".join(f"{name} {len(content)}\n" for name, content in parts.items())
    head = f'{shell}\nmain "$@"\nexit\n{MARKER}\n{index}\n'
    return head.encode("ascii") + b"".join(parts.values())


@lru_cache(maxsize=1024)
def agent_digest(settings: Settings) -> Digest:
    """SHA-256 of the agent as it must be on the host."""
    return Digest(hashlib.sha256(agent_file(settings)).hexdigest())


def _assignments(settings: Settings) -> dict[str, str]:
    """What the shell needs to know."""
    return {
        "ROOT": settings.root,
        "NAME": settings.name,
        "SUPERVISOR": settings.supervisor,
        "HALT_SIGNAL": settings.halt_signal or "",
        "PYTHON": settings.python or "",
        "PORTS": " ".join(map(str, settings.ports)),
    }


def _json(settings: Settings) -> bytes:
    text = json.dumps(settings.to_json(), sort_keys=True, separators=(",", ":"))
    return text.encode("ascii") + b"\n"


@cache
def _sources() -> dict[str, bytes]:
    """Every module of the agent by its name; a package's name ends with a slash."""
    found = dict(_modules(resources.files(_PACKAGE), _PACKAGE))
    return {"loader": found.pop(_LOADER), "deploytool/": b"", **dict(sorted(found.items()))}


def _modules(folder: Traversable, package: str) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        stem, _, ending = entry.name.rpartition(".")
        if entry.is_dir() and entry.joinpath("__init__.py").is_file():
            yield from _modules(entry, f"{package}.{entry.name}")
        elif ending == "py":
            name = f"{package}/" if stem == "__init__" else f"{package}.{stem}"
            yield name, _lean(entry.read_text(encoding="ascii")).encode("ascii")


def _lean(source: str) -> str:
    """A module without docstrings, comments, and imports for type checkers.

    By lines, and only as this repository writes them: a test compares each module's syntax tree.
    """
    kept: list[str] = []
    in_text = in_types = False
    for line in source.splitlines():
        text = line.strip()
        if in_text:
            in_text = not text.endswith('"""')
            continue
        in_types = in_types and line[:1] in ("", " ")
        if in_types or not text or text.startswith("#"):
            continue
        if text.startswith('"""'):
            in_text = text.count('"""') == 1
            if kept and kept[-1].endswith(":"):
                kept.append(line[: -len(line.lstrip())] + "pass")
            continue
        kept.append(line)
        if line == "if TYPE_CHECKING:":
            in_types = True
            kept.append("    pass")
    return "\n".join(kept) + "\n"


def _text(name: str) -> str:
    text = resources.files(_PACKAGE).joinpath(name).read_text(encoding="ascii")
    return text.replace("\r\n", "\n")
