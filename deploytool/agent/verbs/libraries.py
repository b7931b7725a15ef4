"""One digest over the library folders of an interpreter that runs the service.

They are thousands of files. What shows that none was written to since (device, inode, size, times,
owner) is remembered with their digest: by a run of the agent, and for others in the mark
``libraries``, lines ``boot stamp SHA-256``.
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

    ``whole``: nothing counts but what this very run of the agent has read.
    """
    own, before = host.system.libraries, _remembered(host)
    known = own if whole else {**before, **own}
    used: dict[str, str] = {}
    read: dict[str, str] = {}
    found: list[FileDigest] = []
    for program in sorted(set(programs)):
        sha = None
        with attempt():
            folders = _folders(host, program)
            if not folders:
                continue
            stamp = host.system.files.stamp_trees(folders) if known else ""
            sha = known.get(stamp)
            if sha is None:
                sha, stamp = host.system.files.digest_trees(folders)
                read[stamp] = sha
            used[stamp] = sha
        found.append(FileDigest(path=program, sha=sha))
    for some in (used, read):
        some.pop("", None)  # what may change unnoticed is read each time
    host.system.libraries = {at: sha for at, sha in used.items() if at in own or at in read}
    if used and used != before:
        _remember(host, used)
    return tuple(found)


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


def _remembered(host: AgentHost) -> dict[str, str]:
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


def _remember(host: AgentHost, used: dict[str, str]) -> None:
    boot = host.system.machine.boot_id()
    with attempt():  # a host that can't remember reads again
        marks.put(host.state, libraries="".join(f"{boot} {at} {sha}\n" for at, sha in used.items()))
