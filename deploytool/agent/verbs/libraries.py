"""One digest over the library folders of an interpreter that runs the service.

They are thousands of files. What shows that none was written to since (device, inode, size, change
time) is remembered with their digest, in the mark ``libraries``: lines ``boot stamp SHA-256``.
"""

from __future__ import annotations

from deploytool.agent import interpreters, marks
from deploytool.agent.host import attempt
from deploytool.agent.model import FileDigest
from deploytool.agent.words import is_digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from deploytool.agent.host import AgentHost

_AT_MOST = 4096
_FOLDERS_AT_MOST = 64


def libraries(host: AgentHost, programs: Iterable[str], *, whole: bool) -> tuple[FileDigest, ...]:
    """Of each interpreter that has some; without a digest where one can't be read.

    ``whole``: they are read whatever is remembered.
    """
    known = {} if whole else _read(host)
    found: list[FileDigest] = []
    used: dict[str, str] = {}
    for program in sorted(set(programs)):
        sha = None
        with attempt():
            folders = _folders(host, program)
            if not folders:
                continue
            stamp = host.system.files.stamp_trees(folders)
            sha = known.get(stamp) or _digest(host, folders, stamp)
            if sha is not None:
                used[stamp] = sha
        found.append(FileDigest(path=program, sha=sha))
    if used.keys() - known.keys():
        _keep(host, used)
    return tuple(found)


def _digest(host: AgentHost, folders: tuple[str, ...], stamp: str) -> str | None:
    """Their digest; None where one was written to meanwhile."""
    sha = host.system.files.digest_trees(folders)
    return sha if host.system.files.stamp_trees(folders) == stamp else None


def _folders(host: AgentHost, program: str) -> tuple[str, ...]:
    names = host.system.files.names
    above = program.rpartition("/")[0].rpartition("/")[0]
    places = dict.fromkeys((*interpreters.LIBRARY_FOLDERS, f"{above}/lib"))
    # A distribution's folder of one architecture has some too.
    places.update(dict.fromkeys(f"/usr/lib/{n}" for n in names("/usr/lib") if "-linux-" in n))
    found = [
        f"{place}/{name}"
        for place in places
        for name in names(place)
        if interpreters.is_library(program, name)
    ]
    return tuple(found[:_FOLDERS_AT_MOST])


def _read(host: AgentHost) -> dict[str, str]:
    try:
        if host.state.entry("libraries") is None:
            return {}
        text = host.state.read("libraries", _AT_MOST).decode("utf-8", "replace")
    except OSError:
        return {}
    lines = (line.split(" ") for line in text.split("\n"))
    boot = host.system.machine.boot_id()
    return {
        line[1]: line[2]
        for line in lines
        if len(line) == 3 and line[0] == boot and is_digest(line[2])
    }


def _keep(host: AgentHost, used: dict[str, str]) -> None:
    boot = host.system.machine.boot_id()
    with attempt():  # a host that can't remember reads again
        marks.put(host.state, libraries="".join(f"{boot} {at} {sha}\n" for at, sha in used.items()))
