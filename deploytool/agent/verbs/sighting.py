"""One look at every process of this host: what is of the service, and what else is something to it.

Each distinct file is read once, by way of a process that holds it, and within bounds: an account
that starts programs as large as a release can neither slow a stop down nor hide one among them.
"""

from __future__ import annotations

from deploytool.agent import acting, interpreters, known, remembered
from deploytool.agent.acting import ServiceSubject
from deploytool.agent.held import digest_held
from deploytool.agent.model import Owner
from deploytool.agent.port import Interest, UnitState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from deploytool.agent.acting import Digests, FileKey
    from deploytool.agent.host import AgentHost
    from deploytool.agent.model import KnownRelease, Other, Process, ReleaseRun
    from deploytool.agent.port import HeldFile, View

FILES_AT_MOST = 64
"""So many distinct files are read for one look; what is left unread is reported as not seen."""
READING_S = 10.0
"""No further file is begun when reading has taken so long."""


class Sighting:
    """What one look showed. ``digests`` has every file that may be a release's entry."""

    def __init__(
        self, views: Mapping[int, View], subject: ServiceSubject, digests: Digests, unit: UnitState
    ) -> None:
        self.views = views
        self.subject = subject
        self.digests = digests
        self.unit = unit
        self.service = acting.service_pids(views, subject)
        self.others: tuple[Other, ...] = acting.classify(views, subject, digests)

    def runs(self) -> tuple[ReleaseRun, ...]:
        """Which releases the service's processes run; the main process's first."""
        pids = sorted(self.service, key=lambda pid: (pid != self.unit.main, pid))
        found = [acting.runs(self.views[pid], self.subject, self.digests) for pid in pids]
        return tuple(run for of_one in found for run in of_one)

    def owners(self) -> tuple[Owner, ...]:
        """Who holds a declared port."""
        held = {(s.port, pid) for pid, v in self.views.items() for s in v.sockets if s.listens}
        return tuple(Owner(port=port, pid=pid) for port, pid in sorted(held))

    def can_send(self) -> tuple[int, ...]:
        """What is alive of the service, or acts as it."""
        alive = {p for p in self.service if self.views[p].process.state not in ("Z", "X")}
        return tuple(sorted(alive | {o.pid for o in self.others if acting.can_send(o)}))

    def to_kill(self) -> tuple[int, ...]:
        """What a stop ends beside the service."""
        return acting.to_kill(self.views, self.subject, self.others)

    def process(self, pid: int) -> Process:
        """One that was seen."""
        return self.views[pid].process


def sight(
    host: AgentHost,
    unit: UnitState,
    *,
    asked: Iterable[KnownRelease] = (),
    read: Mapping[FileKey, str] | None = None,
    cache: remembered.Digests | None = None,
    unread: bool = False,
) -> Sighting:
    """One look. ``asked``: further releases to be found. ``read``: files whose digest is known.

    ``cache``: of interpreters, which are read only where they changed; with it, releases that are
    new here are remembered. ``unread``: releases that lie in this root are not read; each is known
    by where it lies.

    Raises:
        OSError: the processes of this host can't be listed.
    """
    settings, machine = host.settings, host.system.machine
    # A stop writes nothing but its latch: the disk may be what is wrong.
    releases = known.releases(host, asked, keep=cache is not None)
    whole = settings.account is not None
    account = machine.account(settings.account) if whole else None
    neighbours = tuple((n, machine.account(n.account)) for n in settings.neighbours)
    there = tuple((n, number) for n, number in neighbours if number is not None)
    subject = ServiceSubject(
        root=host.root.path,
        name=settings.name,
        main=unit.main,
        group=unit.group,
        account=account,
        connects=settings.connects,
        neighbours=tuple(n for n, _ in there),
        neighbour_accounts=tuple(number for _, number in there),
        releases=tuple(release.sha for release in releases),
        whole=whole,
    )
    sizes = tuple(sorted({release.size for release in releases})) if subject.whole else ()
    interest = Interest(
        root=subject.root,
        sizes=sizes,
        ports=settings.ports,
        peers=settings.connects,
        accounts=() if account is None else (account,),
        group=unit.group,
        whole=subject.whole,
    )
    views = {view.process.pid: view for view in host.system.processes.survey(interest)}
    digests: dict[FileKey, str | None] = dict(read or {})
    reader = _Reader(host, digests)
    service = acting.service_pids(views, subject)
    # The main process first: it is the one that will not be gone in a moment.
    order = sorted(views, key=lambda pid: (pid != unit.main, pid not in service, pid))
    for pid in order:
        reader.read(
            held
            for held in views[pid].files
            if acting.is_candidate(held, subject, sizes)
            and not (unread and acting.is_release(held, subject, {}))
        )
    programs = _interpreters(views, service, subject, digests)
    cache = cache or remembered.Digests(host)
    for program in programs:
        digests[acting.key(program)] = cache.of(program)
    shas = {digests[acting.key(program)] for program in programs}
    subject = subject.but(interpreters=tuple(sorted(sha for sha in shas if sha is not None)))
    reader.read(_renamed(views, service, programs))
    return Sighting(views, subject, digests, unit)


def _interpreters(
    views: Mapping[int, View], service: frozenset[int], subject: ServiceSubject, digests: Digests
) -> list[HeldFile]:
    """The programs by which the service's processes run a release that they hold open."""
    found: dict[FileKey, HeldFile] = {}
    for pid in sorted(service):
        program = views[pid].program
        if program is not None and any(
            run.how == "fd" for run in acting.runs(views[pid], subject, digests)
        ):
            found.setdefault(acting.key(program), program)
    return list(found.values())


def _renamed(
    views: Mapping[int, View], service: frozenset[int], programs: list[HeldFile]
) -> Iterator[HeldFile]:
    """Programs of others that have a release, and may be copies of an interpreter."""
    sizes = {program.size for program in programs}
    for pid, view in views.items():
        program = view.program
        if pid in service or program is None or program.size not in sizes or not view.files:
            continue
        if not interpreters.is_one(program.path, view.arguments):
            yield program


class _Reader:
    """Reads each file once, as long as there is room for it within the bounds."""

    def __init__(self, host: AgentHost, digests: dict[FileKey, str | None]) -> None:
        self._system = host.system
        self._digests = digests
        self._left = FILES_AT_MOST
        self._until = self._system.machine.uptime() + READING_S

    def read(self, files: Iterable[HeldFile]) -> None:
        for held in files:
            at = acting.key(held)
            if self._digests.get(at) is None:
                self._digests[at] = self._one(held)

    def _one(self, held: HeldFile) -> str | None:
        if self._left <= 0 or self._system.machine.uptime() > self._until:
            return None
        self._left -= 1
        return digest_held(self._system, held)
