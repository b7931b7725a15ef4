"""Who may act as the service: tells each process of one look at a host what it is to it. Pure.

A process acts if it runs a known release, wherever that lies and as whomever; is connected to where
the service's effects go; or holds one of its ports. One that only runs as the service's account
could begin to, and is named. One that only holds a release's file open (a backup, a pager) reads.

What can't be told is ``unseen``. A program that copies a release's code into itself, without
executing, mapping or interpreting the file, is seen only by what it is connected to.
"""

from __future__ import annotations

from deploytool.agent import interpreters
from deploytool.agent.model import Other, ReleaseRun
from deploytool.agent.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from deploytool.agent.port import HeldFile, View
    from deploytool.agent.settings import NeighbourSetting
    from deploytool.agent.words import Count, Digest, Text, Word

    FileKey = tuple[int, int]
    Digests = Mapping[FileKey, str | None]
    Views = Mapping[int, View]

ARGUMENTS_SHOWN = 64
ARGUMENTS_AT_MOST = 4096
"""So many arguments, and bytes of them, a look shows of a process (see ``port.View``)."""
GENERATIONS_AT_MOST = 64
"""A chain of parents that is longer than this is not followed to its end."""


class ServiceSubject(Record):
    """What a look is compared with: the service, and what is known of its releases.

    ``account``: the number of the service's. ``interpreters``: digests of the programs that its
    releases are run by. Not ``whole``: without root, only what belongs to ``root`` counts, because
    the other services of this account do the same beside it.
    """

    root: Text
    name: Word
    main: Count = 0
    group: Text = ""
    account: Count | None = None
    connects: tuple[Text, ...] = ()
    neighbours: tuple[NeighbourSetting, ...] = ()
    neighbour_accounts: tuple[Count, ...] = ()
    """Of each neighbour, by its place."""
    releases: tuple[Digest, ...] = ()
    interpreters: tuple[Digest, ...] = ()
    whole: bool = True


def key(held: HeldFile) -> FileKey:
    """What makes it one file of this boot."""
    return held.device, held.number


def in_group(group: str, of: str) -> bool:
    """Whether a control group is ``of`` or lies below it."""
    return bool(of) and (group == of or group.startswith(of.rstrip("/") + "/"))


def service_pids(views: Views, subject: ServiceSubject) -> frozenset[int]:
    """The processes of the service: its control group; without one, the main one's descendants."""
    if subject.group:
        named = {pid for pid, view in views.items() if in_group(view.group, subject.group)}
    else:
        named = {pid for pid in views if subject.main in _line(views, pid)}
    return frozenset(named | ({subject.main} & views.keys()))


def _line(views: Views, pid: int) -> list[int]:
    """A process and its parents, as far as they are shown."""
    line: list[int] = []
    while pid in views and pid not in line and len(line) < GENERATIONS_AT_MOST:
        line.append(pid)
        pid = views[pid].process.parent
    return line


def is_candidate(held: HeldFile, subject: ServiceSubject, sizes: Iterable[int]) -> bool:
    """Whether a file may be a release's entry, so that its digest has to be known."""
    return _below_root(held, subject) or (subject.whole and held.size in sizes)


def _below_root(held: HeldFile, subject: ServiceSubject) -> bool:
    """Whether it lies where releases of this root do, by its path as the process has it.

    An upload in progress is not a release, and other files of a release are not its program.
    """
    return _names_release(held.path, subject) or (
        held.how in ("exe", "map") and _in_releases(held.path, subject)
    )


def _in_releases(path: str, subject: ServiceSubject) -> bool:
    releases = f"{subject.root}/releases/"
    return path.startswith(releases) and not path.startswith(releases + ".incoming.")


def _names_release(path: str, subject: ServiceSubject) -> bool:
    """Whether a path is that of an artifact of this root, also of one that is gone."""
    if path == f"{subject.root}/current/{subject.name}":
        return True
    plain = path[: -len(" (deleted)")] if path.endswith(" (deleted)") else path
    return _in_releases(plain, subject) and plain.endswith(f"/{subject.name}")


def is_release(held: HeldFile, subject: ServiceSubject, digests: Digests) -> bool:
    """Whether a file is the entry of a release: by its bytes, or because it lies in this root."""
    known = subject.whole and digests.get(key(held)) in subject.releases
    return known or _below_root(held, subject)


def runs(view: View, subject: ServiceSubject, digests: Digests) -> tuple[ReleaseRun, ...]:
    """The releases that a process of the service runs. Each file is told once."""
    found: dict[FileKey, ReleaseRun] = {}
    for how in ("exe", "map", "fd"):
        for held in view.files:
            if held.how == how and key(held) not in found and is_release(held, subject, digests):
                found[key(held)] = ReleaseRun(
                    pid=view.process.pid,
                    how=how,
                    inode=f"{held.device}:{held.number}",
                    path=held.path,
                    deleted=held.deleted,
                    sha=digests.get(key(held)),
                )
    return tuple(found.values())


def classify(views: Views, subject: ServiceSubject, digests: Digests) -> tuple[Other, ...]:
    """What each process that is not of the service is to it, by number; nothing to it: left out.

    ``views`` are a whole look, by number. ``digests`` has each file that ``is_candidate``, and each
    program that may be a renamed interpreter; None: it could not be read.
    """
    service = service_pids(views, subject)
    others = (
        _judge(view, subject, digests)
        for pid, view in sorted(views.items())
        if pid not in service and view.process.state not in ("Z", "X")
    )
    return tuple(other for other in others if other is not None)


def _judge(view: View, subject: ServiceSubject, digests: Digests) -> Other | None:
    ways: dict[str, str] = {}  # how it acts, and by which file or socket
    release: str | None = None
    unread = ""
    for held in view.files:
        if held.how in ("exe", "map"):
            sha = digests.get(key(held))
            if is_release(held, subject, digests):
                ways.setdefault("executes" if held.how == "exe" else "maps", held.path)
                release = release or sha
            elif sha is None and key(held) in digests:
                unread = f"{held.path} is as large as a release, and could not be read"
    program = _interpreted(view, subject, digests)
    if program is not None and program[0] == "interprets":
        ways["interprets"] = program[1]
        release = release or program[2]
    elif program is not None:
        unread = unread or program[1]
    for socket in view.sockets:
        if socket.listens:
            ways.setdefault("port", f"port {socket.port}")
        elif subject.whole:
            ways.setdefault("venue", socket.peer)
    return _role(view, subject, ways, release, unread) or _reader(view, subject, digests)


_RUNS = frozenset(("executes", "maps", "interprets"))


def _role(
    view: View, subject: ServiceSubject, ways: dict[str, str], release: str | None, unread: str
) -> Other | None:
    pid, detail = view.process.pid, "; ".join(ways.values())[:4096]
    if ways:
        if view.client and ways.keys() <= _RUNS:
            role = "client"
        elif not ways.keys() & _RUNS and _is_neighbour(view, subject):
            role = "neighbour"
        else:
            role = "acts"
        return Other(pid=pid, role=role, ways=tuple(ways), release=release, detail=detail)
    if view.hidden or unread:
        return Other(pid=pid, role="unseen", detail=(view.hidden or unread)[:4096])
    if subject.whole and _runs_as(view, subject.account):
        role = (
            "client" if view.client else "neighbour" if _is_neighbour(view, subject) else "account"
        )
        return Other(pid=pid, role=role, ways=("account",), detail=_program(view))
    return None


def _runs_as(view: View, account: int | None) -> bool:
    """Whether it has that account's rights; not root's own, which it lowers for a moment."""
    return account is not None and account in view.accounts and view.accounts[0] != 0


def _is_neighbour(view: View, subject: ServiceSubject) -> bool:
    """Whether the inventory expects it: by its executable, as that account and as no other."""
    return any(
        _program(view) == neighbour.executable
        and set(view.accounts) == {subject.neighbour_accounts[place]}
        for place, neighbour in enumerate(subject.neighbours)
    )


def _program(view: View) -> str:
    return view.program.path if view.program is not None else ""


def _reader(view: View, subject: ServiceSubject, digests: Digests) -> Other | None:
    for how, way in (("fd", "holds"), ("argument", "names")):
        for held in view.files:
            if held.how == how and is_release(held, subject, digests):
                return Other(
                    pid=view.process.pid,
                    role="reader",
                    ways=(way,),
                    release=digests.get(key(held)),
                    detail=held.path,
                )
    return None


def _interpreted(
    view: View, subject: ServiceSubject, digests: Digests
) -> tuple[str, str, str | None] | None:
    """What an interpreter runs: (``interprets``, its script, the release) or (``unseen``, why).

    None: it is not an interpreter, or its program has nothing to do with the service.
    """
    program = view.program
    if program is None or not is_interpreter(program, view, subject, digests):
        return None
    releases = [held for held in view.files if is_release(held, subject, digests)]
    held = [found for found in releases if found.how == "fd"]
    loaded = digests.get(key(held[0])) if held else None
    scripts = interpreters.scripts(_program(view), view.arguments)
    if scripts is None and is_cut(view) and digests.get(key(program)) in subject.interpreters:
        # Of another interpreter than the releases' that is no rarity: a server in Java has many.
        return "unseen", "its arguments are too long to tell what it interprets", None
    scripts = scripts or ()
    named = {f.path: f for f in view.files if f.how == "argument"}
    for script in scripts:
        there = named.get(script)
        if there is not None and key(there) in map(key, releases):
            # What it holds open is what it has loaded: the name may lead to a later one by now.
            return "interprets", script, loaded or digests.get(key(there))
        if _names_release(script, subject):
            return "interprets", script, loaded
        if there is not None and digests.get(key(there), "") is None:
            return "unseen", f"its script {script} could not be read", None
    if not held:
        unread = [f for f in view.files if f.how == "fd" and digests.get(key(f), "") is None]
        return ("unseen", f"{unread[0].path} could not be read", None) if unread else None
    if not scripts:
        why = f"it holds {held[0].path} open, and what it interprets can't be told"
        return "unseen", why, None
    if all(script not in named for script in scripts):
        # Its script is gone from where it was; what it holds open is what it was loaded from.
        return "interprets", held[0].path, loaded
    return None


def is_cut(view: View) -> bool:
    """Whether a process may have more arguments than are shown."""
    length = sum(len(word) + 1 for word in view.arguments)
    return len(view.arguments) >= ARGUMENTS_SHOWN or length >= ARGUMENTS_AT_MOST


def is_interpreter(
    program: HeldFile, view: View, subject: ServiceSubject, digests: Digests
) -> bool:
    """Whether it runs what its arguments name: by its own name, or as a copy of one that does."""
    named = interpreters.is_one(program.path, view.arguments)
    return named or digests.get(key(program)) in subject.interpreters


def can_send(other: Other) -> bool:
    """Whether its effects may leave this host. What only holds a port receives."""
    return other.role == "acts" and other.ways != ("port",)


def to_kill(views: Views, subject: ServiceSubject, others: Iterable[Other]) -> tuple[int, ...]:
    """What a stop ends beside the service: who can send, and what runs as its account above them.

    A shell of the account that starts a copy would start another. Neither readers, neighbours nor
    other processes of the account are touched.
    """
    service = service_pids(views, subject)
    ends: set[int] = set()
    for other in others:
        if not can_send(other):
            continue
        ends.add(other.pid)
        for pid in _line(views, other.pid)[1:]:
            if pid in service or set(views[pid].accounts) != {subject.account}:
                break
            ends.add(pid)
    return tuple(sorted(ends - service))
