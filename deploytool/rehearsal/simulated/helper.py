"""The host side: what helper.sh does, verb by verb, on a machine in memory.

Kept beside helper.sh by the contract suite, which asks both the same things. ``step`` is called
between the parts of an effect, so that a fault can strike there too.
"""

from __future__ import annotations

from collections.abc import Callable

from deploytool.rehearsal.simulated.evidence import show
from deploytool.rehearsal.simulated.machine import DiskError, Machine, sha256
from deploytool.rehearsal.simulated.request import Refusal, Request, first_line, read
from deploytool.rehearsal.simulated.service import Service

_ROOM_BYTES = 1024 * 1024


class Helper:
    """The root-owned helper of one host."""

    def __init__(self, machine: Machine, service: Service, path: str) -> None:
        self.machine = machine
        self.service = service
        self.path = path
        self.configs: tuple[str, ...] = ()
        self.step: Callable[[str], None] = lambda _part: None
        self.rights = "0:0:755"
        self._root = service.root
        self._state = f"{service.root}/state"

    def answer(self, sent: bytes) -> bytes:
        """All that the helper prints for what was sent to it."""
        line, newline, rest = sent.partition(b"\n")
        request = first_line(line.decode("ascii", "replace")) if newline else None
        if request is None:
            return b""
        lines: list[str] = []
        end = "ok"
        try:
            read(request, rest)
            self._do(request, lines.append)
        except Refusal as no:
            end = f"refused {no.code} {no.text}"
        body = "".join(f"{said}\n" for said in lines)
        nonce = request.nonce
        return f"\ndeploytool {nonce} begin\n{body}deploytool {nonce} end {end}\n".encode()

    def _do(self, request: Request, say: Callable[[str], None]) -> None:
        if f"{self._state}/mutex" not in self.machine.disk.files:
            raise Refusal("not-prepared", f"{self._root} lacks its folders")
        if request.verb == "probe":
            show(self, request, say)
        elif (verb := getattr(self, f"verb_{request.verb}", None)) is not None:
            verb(request, say)
        else:
            raise Refusal("bad-request", "unknown verb")

    # --- what verbs need ----------------------------------------------------------------------

    def digest(self, path: str) -> str:
        """SHA-256 of what a program that opens the file now would read; empty without one."""
        file = self.machine.disk.files.get(path)
        return sha256(file.content) if file else ""

    def text(self, mark: str) -> str | None:
        """The content of a file in the state folder; None where there is none."""
        file = self.machine.disk.files.get(f"{self._state}/{mark}")
        return file.content.decode() if file else None

    def _put(self, mark: str, text: str) -> None:
        try:
            self.machine.disk.put(f"{self._state}/{mark}", text.encode())
        except DiskError as error:
            raise Refusal("cannot-write", f"{self._state}/{mark} can't be written") from error
        self.step(f"{mark} written")

    def _lock(self) -> dict[str, str]:
        pairs = (line.partition(" ") for line in (self.text("lock") or "").splitlines())
        return {key: value for key, _, value in pairs}

    def _check_token(self, request: Request) -> None:
        request.needs("token")
        lock, token = self._lock(), request["token"]
        if not lock:
            raise Refusal(
                "stale-token", f"nobody holds the lock of this host; token {token} is not valid"
            )
        if lock["token"] != token:
            raise Refusal(
                "stale-token",
                f"the lock is held by {lock['holder']} with token {lock['token']}, not {token}",
            )

    def held(self, release: str, manifest: str) -> str:
        """absent, damaged, unlabelled (another manifest), or intact."""
        folder = f"{self._root}/releases/{release}"
        if not self.machine.disk.below(folder):
            return "absent"
        if self.digest(f"{folder}/{self.service.name}") != release:
            return "damaged"
        labelled = self.digest(f"{folder}/release.json") == manifest
        return "intact" if labelled else "unlabelled"

    # --- lock and token -----------------------------------------------------------------------

    def _take_lock(self, request: Request) -> None:
        token = int(self.text("token") or 0) + 1
        self._put("token", f"{token}\n")
        lines = [f"token {token}"]
        lines += [f"{key} {request[key]}" for key in ("holder", "purpose", "plan")]
        self._put("lock", "\n".join([*lines, f"since {int(self.machine.clock)}", ""]))

    def _say_locked(self, say: Callable[[str], None]) -> None:
        say(f"token {self._lock()['token']}")
        say(f"current {self.machine.disk.links.get(f'{self._root}/current', 'none')}")
        if (mark := self.text("verified")) is not None:
            say(f"verified {mark.replace(chr(10), ' ')}")

    def verb_lock(self, request: Request, say: Callable[[str], None]) -> None:
        """Takes the lock, or says who has it. The same plan asks twice and has it once."""
        request.needs("holder", "purpose", "plan")
        lock = self._lock()
        if lock and lock["plan"] != request["plan"]:
            text = "{holder} holds the lock for {purpose}, plan {plan}, since {since}"
            raise Refusal("locked", text.format_map(lock))
        if not lock:
            self._take_lock(request)
        self._say_locked(say)

    def verb_takeover(self, request: Request, say: Callable[[str], None]) -> None:
        """Takes a lock away from whoever has it, by the token that names it."""
        request.needs("holder", "purpose", "plan", "token")
        lock = self._lock()
        if lock and lock["plan"] != request["plan"]:
            self._check_token(request)
        if not lock or lock["plan"] != request["plan"]:
            self._take_lock(request)
        self._say_locked(say)

    def verb_unlock(self, request: Request, _say: Callable[[str], None]) -> None:
        """Gives the lock back."""
        self._check_token(request)
        self._remove("lock")
        self.step("lock removed")

    def _remove(self, mark: str) -> None:
        try:
            self.machine.disk.remove(f"{self._state}/{mark}")
        except DiskError as error:
            raise Refusal("cannot-write", f"{self._state}/{mark} can't be removed") from error

    # --- changing what runs -------------------------------------------------------------------

    def verb_stage(self, request: Request, say: Callable[[str], None]) -> None:
        """Copies a release, reads it back from the disk, and only then gives it its name."""
        request.needs("release", "size", "manifest", "manifest_size", "seconds")
        self._check_token(request)
        found = self.held(request["release"], request["manifest"])
        if found in {"intact", "unlabelled"}:
            self._relabel(request)
            say(f"staged {found}")
            return
        disk, need = self.machine.disk, request.number("size") + request.number("manifest_size")
        if disk.room <= need + _ROOM_BYTES:
            raise Refusal(
                "no-space",
                f"{disk.room} bytes are free in {self._root}/releases, {need} are needed",
            )
        incoming = f"{self._root}/releases/.incoming.{request['release']}"
        try:
            self._receive(request, incoming)
            folder = f"{self._root}/releases/{request['release']}"
            disk.remove_folder(folder)
            disk.rename_folder(incoming, folder)
        except DiskError as error:
            self._discard(incoming)
            raise Refusal("cannot-write", f"{incoming}: {error}") from error
        except Refusal:
            self._discard(incoming)
            raise
        self.step("release in place")
        say(f"staged {'direct' if disk.direct else 'cached'}")

    def _relabel(self, request: Request) -> None:
        head = request.payload[: request.number("manifest_size")]
        if sha256(head) != request["manifest"]:
            raise Refusal("bad-copy", "the manifest arrived altered")
        path = f"{self._root}/releases/{request['release']}/release.json"
        try:
            self.machine.disk.put(path, head, 0o444)
        except DiskError as error:
            raise Refusal("cannot-write", "the manifest") from error

    def _receive(self, request: Request, incoming: str) -> None:
        disk, name = self.machine.disk, self.service.name
        disk.writable()
        disk.remove_folder(incoming)
        cut = request.number("manifest_size")
        head, body = request.payload[:cut], request.payload[cut:][: request.number("size")]
        for path, part, size in (("release.json", head, cut), (name, body, request.number("size"))):
            disk.put(f"{incoming}/{path}", part, 0o444 if path == "release.json" else 0o555)
            if len(part) != size:
                raise Refusal("short-copy", f"{len(part)} of {size} bytes arrived")
            self.step(f"{'manifest' if path == 'release.json' else 'artifact'} received")
        if self.digest(f"{incoming}/release.json") != request["manifest"]:
            raise Refusal("bad-copy", "the manifest arrived altered")
        got = sha256(disk.files[f"{incoming}/{name}"].on_disk or b"")
        if got != request["release"]:
            raise Refusal("bad-copy", f"read back from disk, the copy is {got}")
        said = self.service.version_line(f"{incoming}/{name}")
        wanted = head.decode("utf-8", "replace").rpartition('"version_line":"')[2].partition('"')[0]
        if said != wanted:
            raise Refusal("bad-version", f"it says it is '{said}', the manifest says '{wanted}'")

    def _discard(self, folder: str) -> None:
        disk = self.machine.disk
        if not disk.read_only:
            disk.remove_folder(folder)

    def verb_activate(self, request: Request, say: Callable[[str], None]) -> None:
        """Switches and restarts; release none: nothing is to run. Then shows what is so now."""
        request.needs("release")
        self._check_token(request)
        none = request["release"] == "none"
        target = f"releases/{request['release']}"
        if not none and f"{self._root}/{target}/{self.service.name}" not in self.machine.disk.files:
            raise Refusal("not-staged", f"{request['release']} is not on this host")
        disk, link = self.machine.disk, f"{self._root}/current"
        try:
            disk.remove(f"{self._state}/verified")
            if not none:
                disk.link(link, target)
                self.step("link switched")
        except DiskError as error:
            raise Refusal("cannot-write", f"{link} can't be switched") from error
        if failed := self.service.stop():
            what = "service" if none else "old service"
            raise Refusal("service", f"the {what} can't be stopped: {failed}")
        self.step("service stopped")
        if none:
            disk.links.pop(link, None)
        elif failed := self.service.start():
            say(f"start {failed}")
        self.step("service started")
        show(self, request, say)

    def verb_confirm(self, request: Request, _say: Callable[[str], None]) -> None:
        """Writes down that the deployer has seen this very process run the release."""
        request.needs("release", "pid", "start", "boot")
        self._check_token(request)
        main = self.machine.processes.get(self.service.main_pid)
        seen = (request.number("pid"), request.number("start"), request["boot"])
        current = self.machine.disk.links.get(f"{self._root}/current")
        if (
            main is None
            or (main.pid, main.start, self.machine.boot_id) != seen
            or current != f"releases/{request['release']}"
        ):
            raise Refusal("moved-on", "what was verified is not what runs now")
        pairs = [f"{key} {request[key]}" for key in ("release", "pid", "start", "boot", "token")]
        self._put("verified", "\n".join([*pairs, f"since {int(self.machine.clock)}", ""]))
