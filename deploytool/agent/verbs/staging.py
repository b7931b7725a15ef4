"""Receives a release: hashed on its way, read back from the disk, put in place in one step."""

from __future__ import annotations

import hashlib

from deploytool.agent import marks
from deploytool.agent.host import Refusal, attempt, writing
from deploytool.agent.model import ReadBack, word_of
from deploytool.agent.protocol import parse_json
from deploytool.agent.record import Malformed
from deploytool.agent.requests import Staged
from deploytool.agent.verbs import service
from deploytool.agent.verbs.receiving import pieces
from deploytool.agent.verbs.releases import MANIFEST, holding
from deploytool.agent.words import DOCUMENT_AT_MOST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from deploytool.agent.host import AgentHost
    from deploytool.agent.port import Folder, Payload, Sink
    from deploytool.agent.requests import StageRelease
    from deploytool.agent.verbs.releases import ReleaseShown

SPARE = 1 << 20
"""Bytes that are left free beside a copy, for marks and for the service."""


def stage(host: AgentHost, request: StageRelease, payload: Payload) -> Staged:
    """Receives a release. Nothing is switched, and its name is given to a whole copy alone.

    The mutex is released meanwhile, so that a slow sender blocks no other change: if the lock is
    taken over or the host is stopped, this copy is refused when it has arrived.
    """
    if request.manifest_size > DOCUMENT_AT_MOST:
        raise Refusal("bad-request", f"a manifest has at most {DOCUMENT_AT_MOST} bytes")
    # Each copy has its own: one that was lost, and goes on arriving, never meets a later one.
    name = f".incoming.{request.release}.{host.system.machine.draft()}"
    with host.mutex():
        _check(host, request)
        with writing(f"{host.releases.path}/{name}"):
            host.releases.make_folder(name, 0o755)
            upload = host.releases.folder(name)
    try:
        return _Copy(host, request, payload, name, upload).stage()
    except Refusal:
        gone = host.releases.entry(name) is None
        _forget(host, name)
        if gone:
            # It was pruned: that the lock was released or taken over is the reason, and is named.
            with host.mutex():
                _check(host, request)
        raise
    finally:
        upload.close()


def _check(host: AgentHost, request: StageRelease) -> None:
    host.check_token(request.token)
    host.check_latch(request.latch)


def _forget(host: AgentHost, name: str) -> None:
    """What was received for nothing goes again."""
    with attempt():  # else it goes when the lock is released
        host.releases.remove_tree(name)


class _Copy:
    """One copy on its way."""

    def __init__(
        self, host: AgentHost, request: StageRelease, payload: Payload, name: str, upload: Folder
    ) -> None:
        self._host, self._request, self._payload = host, request, payload
        self._name, self._upload = name, upload
        self._until = host.system.machine.uptime() + request.seconds

    def stage(self) -> Staged:
        request = self._request
        held = holding(self._host, request.release, request.manifest)
        here = held.state in {"intact", "unlabelled"}
        self._make_room(artifact=0 if here else request.artifact_size)
        found = self._receive(request.manifest_size, MANIFEST)
        if found != request.manifest:
            raise Refusal("bad-copy", f"the manifest arrived altered: its SHA-256 is {found}")
        direct = held.direct
        if here:
            self._receive(request.artifact_size, None)
        else:
            direct = self._receive_artifact()
        with self._host.mutex():
            _check(self._host, request)  # others may have come while the copy was on its way
            with writing(self._host.releases.path):
                self._label(held) if here else self._place()
        return Staged(sent=not here, direct=direct)

    def _make_room(self, artifact: int) -> None:
        needed = self._request.manifest_size + (artifact and artifact + SPARE)
        free = self._host.releases.free()
        if free <= needed:
            text = f"{free} bytes are free in {self._host.releases.path}, {needed} are needed"
            raise Refusal("no-space", text)

    # --- receiving ------------------------------------------------------------------------------

    def _receive(self, size: int, name: str | None) -> str:
        """Exactly so many bytes into a file (None: into none), on the disk; gives their SHA-256."""
        if name is None:
            return self._pour(size, None)
        with writing("the copy"):
            # Not executable before it was checked.
            sink = self._upload.create(name, 0o444)
            try:
                found = self._pour(size, sink)
                sink.sync()
            finally:
                sink.close()
        return found

    def _pour(self, size: int, sink: Sink | None) -> str:
        digest = hashlib.sha256()
        for piece in pieces(self._host.system.machine, self._payload, size, self._until):
            digest.update(piece)
            if sink is not None:
                sink.write(piece)
        return digest.hexdigest()

    def _receive_artifact(self) -> bool:
        """The artifact, checked; whether it was read back past the page cache."""
        request, name = self._request, self._host.settings.name
        arrived = self._receive(request.artifact_size, name)
        if arrived != request.release:
            raise Refusal("bad-copy", f"the copy arrived altered: its SHA-256 is {arrived}")
        try:
            disk = self._upload.digest_disk(name)
        except OSError as error:
            raise Refusal("bad-copy", f"the copy can't be read back: {error}") from error
        if disk.sha != request.release:
            raise Refusal(
                "bad-copy", f"read back from the disk, the copy is {disk.sha or 'unreadable'}"
            )
        with writing("the copy's mode"):
            self._upload.set_mode(name, 0o555)
            self._upload.sync_file(name)
            self._upload.sync()
        self._check_version()
        return disk.direct

    def _check_version(self) -> None:
        wanted = self._version_line()
        folder = f"{self._host.releases.path}/{self._name}"
        asked = service.try_out(self._host, folder)
        said = asked.answer.partition("\n")[0]
        if asked.code == 0 and said == wanted:
            return
        ended = "did not end by itself" if asked.code is None else f"ended with {asked.code}"
        errors = f" ({asked.errors.strip()[:400]})" if asked.errors.strip() else ""
        text = f"it says it is {said[:400]!r} and {ended}{errors}; the manifest says {wanted!r}"
        raise Refusal("bad-version", text)

    def _version_line(self) -> str:
        """What the artifact must print, by its manifest."""
        try:
            said = parse_json(self._upload.read(MANIFEST, DOCUMENT_AT_MOST), DOCUMENT_AT_MOST)
        except (OSError, Malformed) as error:
            raise Refusal("bad-manifest", f"the manifest can't be read: {error}") from error
        line = said.get("version_line") if isinstance(said, dict) else None
        if not isinstance(said, dict) or not isinstance(line, str):
            raise Refusal("bad-manifest", "the manifest does not say what the artifact prints")
        if said.get("sha256") != self._request.release:
            raise Refusal("bad-manifest", "the manifest is of another release")
        return line

    # --- in place, under the mutex --------------------------------------------------------------

    def _label(self, held: ReleaseShown) -> None:
        """The artifact stays; the manifest beside it is replaced."""
        draft, name = f"{MANIFEST}.new", self._host.settings.name
        folder = self._host.releases.folder(self._request.release)
        try:
            entry = folder.entry(name)
            if entry is None or entry.inode != held.artifact:
                raise Refusal("bad-copy", "what was here of the release has changed meanwhile")
            if folder.entry(draft) is not None:
                folder.remove(draft)  # what a killed one left
            sink = folder.create(draft, 0o444)
            try:
                sink.write(self._upload.read(MANIFEST, DOCUMENT_AT_MOST))
                sink.sync()
            finally:
                sink.close()
            folder.rename(draft, MANIFEST)
            folder.sync()
        finally:
            folder.close()
        _forget(self._host, self._name)

    def _place(self) -> None:
        """The whole copy, under its name by one rename."""
        releases, release = self._host.releases, self._request.release
        if releases.entry(release) is not None:
            releases.remove_tree(f".damaged.{release}")
            releases.rename(release, f".damaged.{release}")
        releases.rename(self._name, release)
        releases.sync()
        self._note()

    def _note(self) -> None:
        """Marks what was read back, so that a switch need not read it again: a mere saving."""
        machine, release = self._host.system.machine, self._request.release
        with attempt():
            entry = self._upload.entry(self._host.settings.name)
            if entry is not None:
                inode = word_of(entry.inode)
                mark = ReadBack(release=release, boot=machine.boot_id(), inode=inode)
                marks.put(self._host.state, staged=marks.text_of(mark))
