"""What every verb of the simulated helper stands on: files, digests, marks, the token check."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from deploytool.simulation.machine import DiskError, Machine, sha256
from deploytool.simulation.request import HelperRefusal, HelperRequest
from deploytool.simulation.service import SimulatedService

Say = Callable[[str], None]


class HelperState:
    """One host's files as the helper sees them. ``step`` is called between parts of an effect."""

    def __init__(self, machine: Machine, service: SimulatedService, path: str) -> None:
        self.machine = machine
        self.service = service
        self.path = path
        self.fleet = self.name = ""
        """What the inventory calls the fleet, and this host in it."""
        self.configs: tuple[str, ...] = ()
        self.signers = ""
        """Where the signers file stands; empty where the inventory names none."""
        self.commands = False
        """Whether the inventory names commands for flags."""
        self.step: Callable[[str], None] = lambda _part: None
        self.rights = "0:0:755"
        self.root = service.root
        self.state = f"{service.root}/state"

    def digest(self, path: str) -> str:
        """SHA-256 of what a program that opens the file now would read; empty without one."""
        file = self.machine.disk.files.get(path)
        return sha256(file.content) if file else ""

    def disk_digest(self, path: str) -> str:
        """SHA-256 of what lies on the disk, where it lets a reader past the page cache."""
        disk = self.machine.disk
        file = disk.files.get(path)
        return sha256(file.on_disk or b"") if file and disk.direct else self.digest(path)

    def text(self, mark: str) -> str | None:
        """The content of a file in the state folder; None where there is none."""
        file = self.machine.disk.files.get(f"{self.state}/{mark}")
        return file.content.decode() if file else None

    def pairs(self, mark: str) -> dict[str, str]:
        """The lines "key value" of a file in the state folder; none where there is no file."""
        pairs = (line.partition(" ") for line in (self.text(mark) or "").splitlines())
        return {key: value for key, _, value in pairs}

    def put(self, mark: str, text: str) -> None:
        """Writes a file of the state folder, atomically and on the disk.

        Raises:
            HelperRefusal: it can't be written.
        """
        try:
            self.machine.disk.put(f"{self.state}/{mark}", text.encode())
        except DiskError as error:
            raise HelperRefusal("cannot-write", f"{self.state}/{mark} can't be written") from error
        self.step(f"{mark} written")

    def put_pairs(self, mark: str, pairs: Mapping[str, object]) -> None:
        """Writes lines "key value", and since when they hold."""
        dated = {**pairs, "since": int(self.machine.clock)}
        self.put(mark, "".join(f"{key} {value}\n" for key, value in dated.items()))

    def remove(self, *marks: str) -> None:
        """Takes files of the state folder away.

        Raises:
            HelperRefusal: they can't be removed.
        """
        try:
            for mark in marks:
                self.machine.disk.remove(f"{self.state}/{mark}")
        except DiskError as error:
            raise HelperRefusal(
                "cannot-write", f"{self.state}/{marks[-1]} can't be removed"
            ) from error

    def linked(self) -> str:
        """The release that ``current`` names, or "none"."""
        target = self.machine.disk.links.get(f"{self.root}/current", "none")
        return target.removeprefix("releases/")

    def check_token(self, request: HelperRequest) -> None:
        """Makes sure that whoever asks still holds the lock.

        Raises:
            HelperRefusal: nobody does, or somebody else.
        """
        request.needs("token")
        lock, token = self.pairs("lock"), request["token"]
        if not lock:
            if int(self.text("token") or 0) == int(token):
                raise HelperRefusal("unlocked", f"the lock of token {token} was given back")
            raise HelperRefusal(
                "stale-token", f"nobody holds the lock of this host; token {token} is not valid"
            )
        if lock["token"] != token:
            raise HelperRefusal(
                "stale-token",
                f"the lock is held by {lock['holder']} with token {lock['token']}, not {token}",
            )

    def release_state(self, release: str, manifest: str) -> str:
        """absent, damaged, unlabelled (another manifest), or intact."""
        folder = f"{self.root}/releases/{release}"
        if not self.machine.disk.below(folder):
            return "absent"
        artifact = f"{folder}/{self.service.name}"
        if {self.digest(artifact), self.disk_digest(artifact)} != {release}:
            return "damaged"
        return "intact" if self.digest(f"{folder}/release.json") == manifest else "unlabelled"
