"""Shows the host: one look, from which the operator's side proves what runs.

Every file of the round is read once. What a process runs is read by way of that process, whatever
has become of the file's name; the artifact that is active is read past the page cache, and that
reading counts for the process that runs it too.
"""

from __future__ import annotations

from deploytool.agent import acting, marks, remembered
from deploytool.agent.host import Refusal
from deploytool.agent.model import (
    Asked,
    FileDigest,
    HostEvidence,
    ManifestShown,
    Running,
    Signers,
    word_of,
)
from deploytool.agent.port import UnitState
from deploytool.agent.requests import LookAnswer
from deploytool.agent.verbs import configs, service, surroundings
from deploytool.agent.verbs.libraries import libraries
from deploytool.agent.verbs.members import members_file, rights_at
from deploytool.agent.verbs.releases import MANIFEST, holding
from deploytool.agent.verbs.sighting import sight
from deploytool.agent.words import DOCUMENT_AT_MOST, TEXT_AT_MOST, is_digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from deploytool.agent.acting import FileKey
    from deploytool.agent.host import AgentHost
    from deploytool.agent.model import DiskRead, Inode, Process, ReadBack, Rights
    from deploytool.agent.port import Folder, HeldFile, Payload
    from deploytool.agent.requests import Probe
    from deploytool.agent.verbs.sighting import Sighting

PRELOAD = "/etc/ld.so.preload"
_DRAFT = "trial"
_DRAFT_BYTES = 4096
"""A whole block: a file system that is full takes less than that into an inode."""
_LINES, _LINE_AT_MOST = 10, 500
"""So much is shown of what a service printed that does not run."""
_LOADING = ("LD_", "PYTHON", "PERL5", "RUBY", "NODE_", "JAVA_", "JDK_", "GCONV_", "GLIBC_", "LUA_")
_LOADING_NAMES = frozenset({"PATH", "ENV", "BASH_ENV", "IFS", "CLASSPATH"})
"""Variables that decide which code a program loads: they are shown with their values."""


def probe(host: AgentHost, request: Probe, _payload: Payload) -> LookAnswer:
    """Shows this host.

    Raises:
        Refusal: another look does not end, or this host can't be looked at.
    """
    return LookAnswer(evidence=look(host, request))


def look(
    host: AgentHost,
    probe: Probe,
    *,
    seen: UnitState | None = None,
    said: Asked | None = None,
    read_back: ReadBack | None = None,
) -> HostEvidence:
    """One look at the host; it takes ``host.look_alone`` itself.

    ``seen`` and ``said``: what the supervisor and the main process said just now, so that neither
    is asked again. ``read_back``: an artifact whose inode is still that is not read again.

    Raises:
        Refusal: another look does not end, or this host can't be looked at.
    """
    with host.look_alone():
        try:
            return _Look(host, probe, read_back).show(seen, said)
        except OSError as error:
            raise Refusal("cannot-look", f"this host can't be inspected: {error}") from error


class _Look:
    def __init__(self, host: AgentHost, probe: Probe, read_back: ReadBack | None) -> None:
        self._host = host
        self._system = host.system
        self._settings = host.settings
        self._probe = probe
        self._linked = host.linked()
        self._read_back = read_back
        # A caller that asks about one release has no use for the bytes and words of another.
        self._quick = probe.only_target and self._linked != probe.release
        self._cache = remembered.Digests(host)

    def show(self, seen: UnitState | None, said: Asked | None) -> HostEvidence:
        system, settings, host = self._system, self._settings, self._host
        unit = seen if seen is not None else self._unit()
        artifact, manifest = self._active()
        disk = self._disk(artifact)
        read = self._read(artifact, disk)
        sighting = sight(
            host,
            unit,
            asked=self._probe.known,
            read=read,
            cache=self._cache,
            unread=self._quick,
        )
        asked_release, label = self._asked_release(disk, manifest)
        running, interpreters = self._main(sighting)
        status = said if said is not None else self._status(sighting, artifact)
        trial = self._try_state()
        around = self._probe.surroundings and sighting.subject.whole
        redirected = surroundings.packet_rules(host) if around else (None, "")
        manager = surroundings.manager(host) if around else None
        unit_files = system.supervisor.unit_files()
        self._cache.keep()
        return HostEvidence(
            agent=host.agent,
            made=settings.made(),
            machine=system.machine.machine_id(),
            boot=system.machine.boot_id(),
            clock=system.machine.now(),
            root=host.root.path,
            rights=self._rights(),
            current=host.current(),
            marks=marks.read_all(host.state),
            main=unit.main,
            age_s=self._age(sighting),
            free=host.releases.free(),
            lacks=tuple(p for p in self._probe.requires if not system.machine.has_program(p)),
            asked_release=asked_release,
            label=label,
            artifact=artifact,
            disk=disk,
            manifest=manifest,
            signers=self._signers(),
            members=members_file(self._host),
            unit=unit.properties,
            log=() if unit.main else self._log(),
            unit_files=tuple(configs.digest(host, path) for path in unit_files),
            configs=configs.digests(host),
            started=configs.read_start(host),
            group=tuple(sorted(sighting.service)),
            runs=sighting.runs(),
            others=sighting.others,
            whole=sighting.subject.whole,
            owners=sighting.owners(),
            open_ports=tuple(sorted(system.processes.listening(settings.ports))),
            interpreters=interpreters,
            running=running,
            preload=configs.digest(host, PRELOAD) if sighting.subject.whole else None,
            starters=(
                surroundings.starters(host, unit_files) if self._probe.surroundings else None
            ),
            libraries=(
                libraries(host, (file.path for file in interpreters), whole=self._probe.whole)
                if around
                else ()
            ),
            manager=None if manager is None else shown_environment(manager),
            redirects=redirected[0],
            redirects_unknown=redirected[1],
            state_writable=not trial,
            state_error=trial,
            status=status,
            # Last: what ended meanwhile, or whose number belongs to another by now, is told apart.
            processes=self._still(sighting),
        )

    def _log(self) -> tuple[str, ...]:
        """What the service said last, for who asks why it does not run."""
        try:
            lines = self._system.supervisor.log(_LINES, own=True)
        except OSError:
            return ()
        return tuple(line[:_LINE_AT_MOST] for line in lines)

    def _unit(self) -> UnitState:
        try:
            return self._system.supervisor.state()
        except OSError:
            # It says nothing, and no rule takes that for an answer; its processes are no strays.
            return service.usual_group(self._host) or UnitState()

    # --- files ----------------------------------------------------------------------------------

    def _active(self) -> tuple[Inode | None, ManifestShown | None]:
        """The artifact that ``current`` names, and its manifest. No link below the root counts."""
        if self._linked is None or not is_digest(self._linked):
            return None, None
        try:
            folder = self._host.releases.folder(self._linked)
        except OSError:
            return None, None
        try:
            entry = folder.entry(self._settings.name)
            return (
                entry.inode if entry is not None and entry.kind == "file" else None,
                _manifest(folder),
            )
        finally:
            folder.close()

    def _disk(self, artifact: Inode | None) -> DiskRead | None:
        if artifact is None or self._quick or not self._probe.read_disk:
            return None
        folder = self._host.releases.folder(str(self._linked))
        try:
            return folder.digest_disk(self._settings.name)
        finally:
            folder.close()

    def _read(self, artifact: Inode | None, disk: DiskRead | None) -> dict[FileKey, str]:
        """What the artifact's inode was read as: one reading counts for whoever runs it."""
        if artifact is None:
            return {}
        sha = disk.sha if disk is not None else None
        back = self._read_back
        if sha is None and back is not None and word_of(artifact) == back.inode:
            same = back.release == self._linked and back.boot == self._system.machine.boot_id()
            sha = back.release if same else None
        return {} if sha is None else {(artifact.device, artifact.number): sha}

    def _asked_release(
        self, disk: DiskRead | None, manifest: ManifestShown | None
    ) -> tuple[str | None, ManifestShown | None]:
        """What is held of the release that was asked for, and its manifest where none was named."""
        release, wanted = self._probe.release, self._probe.manifest
        if release is None:
            return None, None
        if release == self._linked and disk is not None and manifest is not None:
            # It is the active one: it has just been read.
            labelled = "intact" if wanted in (None, manifest.sha) else "unlabelled"
            state = labelled if disk.sha == release else "damaged"
            return state, manifest if wanted is None else None
        state = holding(self._host, release, wanted).state
        if wanted is not None or state == "absent":
            return state, None
        try:
            folder = self._host.releases.folder(release)
        except OSError:
            return state, None
        try:
            return state, _manifest(folder)
        finally:
            folder.close()

    def _rights(self) -> tuple[Rights, ...]:
        """Of the release root and two folders in it; fewer where one is not a folder any more."""
        root = self._system.files.inode(self._host.root.path)
        folders = (self._host.root.entry(name) for name in ("releases", "state"))
        inodes = (root, *(e.inode for e in folders if e is not None and e.kind == "folder"))
        return tuple(inode.rights for inode in inodes if inode is not None)

    def _signers(self) -> Signers | None:
        path = self._settings.signers
        if path is None:
            return None
        return Signers(file=configs.digest(self._host, path), rights=rights_at(self._host, path))

    def _try_state(self) -> str:
        """Why a latch could not be written here now; empty where it could."""
        state = self._host.state
        try:
            if state.entry(_DRAFT) is not None:
                state.remove(_DRAFT)  # what a killed one left
            sink = state.create(_DRAFT, 0o600)
            try:
                sink.write(b"\n" * _DRAFT_BYTES)
                sink.sync()
            finally:
                sink.close()
                state.remove(_DRAFT)
        except OSError as error:
            return f"{state.path} can't be written: {error.strerror or error}"[:TEXT_AT_MOST]
        return ""

    # --- processes ------------------------------------------------------------------------------

    def _main(self, sighting: Sighting) -> tuple[Running | None, tuple[FileDigest, ...]]:
        """What the main process was started with and has loaded, and what interprets releases."""
        view = sighting.views.get(sighting.unit.main)
        if view is None or self._quick:
            return None, ()
        processes = self._system.processes
        try:
            mapped = processes.mapped(view.process)
            environment = processes.environment(view.process)
        except OSError:
            return None, ()
        running = Running(
            arguments=view.arguments,
            environment=shown_environment(environment),
            mapped=tuple(self._held(held) for held in mapped),
        )
        programs: dict[FileKey, HeldFile] = {}
        for run in sighting.runs():
            program = sighting.views[run.pid].program
            if run.how == "fd" and program is not None:
                programs.setdefault(acting.key(program), program)
        return running, tuple(self._held(held) for held in programs.values())

    def _age(self, sighting: Sighting) -> float | None:
        view = sighting.views.get(sighting.unit.main)
        return None if view is None else self._system.machine.age(view.process.start)

    def _held(self, held: HeldFile) -> FileDigest:
        return FileDigest(path=held.path or "?", sha=self._cache.of(held))

    def _status(self, sighting: Sighting, artifact: Inode | None) -> Asked | None:
        """What the running process says of itself, also one that systemd has lost sight of."""
        if self._quick or not self._probe.ask:
            return None
        if not (sighting.unit.main or sighting.service or sighting.can_send()):
            return None
        folder = self._client_folder(sighting, artifact)
        return service.ask_status(self._host, sighting.unit, folder)

    def _client_folder(self, sighting: Sighting, artifact: Inode | None) -> str:
        """Where its client is: beside what the main process runs, where the link leads nowhere."""
        if artifact is None:
            for run in sighting.runs():
                folder, _, name = run.path.rpartition("/")
                inside = folder.startswith(f"{self._host.root.path}/releases/")
                if run.pid == sighting.unit.main and inside and name == self._settings.name:
                    return folder
        return service.current(self._host)

    def _still(self, sighting: Sighting) -> tuple[Process, ...]:
        """The service's processes and what is something to it, each looked at again."""
        shown = {other.pid for other in sighting.others} | sighting.service
        shown |= {sighting.unit.main} & sighting.views.keys()
        found = []
        for pid in sorted(shown):
            before = sighting.process(pid)
            now = self._system.processes.process(pid)
            still = now is not None and now.start == before.start
            found.append(before if still else before.but(still=False))
        return tuple(found)


def _manifest(folder: Folder) -> ManifestShown | None:
    """A manifest is small (docs/contract.md): of what is not small, the digest alone is shown."""
    sha = folder.digest(MANIFEST)
    if sha is None:
        return None
    try:
        text = folder.read(MANIFEST, DOCUMENT_AT_MOST).decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return ManifestShown(sha=sha)
    return ManifestShown(sha=sha, text=text)


def shown_environment(variables: tuple[str, ...]) -> tuple[str, ...]:
    """Names of variables, sorted; with their values those that decide which code is loaded."""
    shown = set()
    for variable in variables:
        name = variable.partition("=")[0]
        loads = name in _LOADING_NAMES or name.startswith(_LOADING)
        shown.add((variable if loads else name)[:TEXT_AT_MOST])
    return tuple(sorted(shown))
