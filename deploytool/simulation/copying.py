"""Stage: a release is copied to a simulated host, read back, and only then given its name."""

from __future__ import annotations

from deploytool.simulation.helper_state import Say
from deploytool.simulation.machine import DiskError, sha256
from deploytool.simulation.request import HelperRefusal, HelperRequest
from deploytool.simulation.stopping import Stopping

_ROOM_BYTES = 1024 * 1024


class Copying(Stopping):
    """The verb that copies."""

    def verb_stage(self, request: HelperRequest, say: Say) -> None:
        """Copies a release, reads it back from the disk, and only then gives it its name."""
        request.needs("release", "size", "manifest", "manifest_size", "seconds")
        self.check_token(request)
        self.check_latch(request)
        found = self.release_state(request["release"], request["manifest"])
        if found in {"intact", "unlabelled"}:
            self._relabel(request)
            say(f"staged {found}")
            return
        disk, need = self.machine.disk, request.number("size") + request.number("manifest_size")
        if disk.room <= need + _ROOM_BYTES:
            raise HelperRefusal(
                "no-space",
                f"{disk.room} bytes are free in {self.root}/releases, {need} are needed",
            )
        incoming = f"{self.root}/releases/.incoming.{request['release']}.{request['token']}"
        try:
            self._receive(request, incoming)
            self.check_latch(request)
            folder = f"{self.root}/releases/{request['release']}"
            disk.remove_folder(folder)
            disk.rename_folder(incoming, folder)
        except DiskError as error:
            self._discard(incoming)
            raise HelperRefusal("cannot-write", f"{incoming}: {error}") from error
        except HelperRefusal:
            self._discard(incoming)
            raise
        self.step("release in place")
        say(f"staged {'direct' if disk.direct else 'cached'}")

    def _relabel(self, request: HelperRequest) -> None:
        head = request.payload[: request.number("manifest_size")]
        if sha256(head) != request["manifest"]:
            raise HelperRefusal("bad-copy", "the manifest arrived altered")
        path = f"{self.root}/releases/{request['release']}/release.json"
        try:
            self.machine.disk.put(path, head, 0o444)
        except DiskError as error:
            raise HelperRefusal("cannot-write", "the manifest") from error

    def _receive(self, request: HelperRequest, incoming: str) -> None:
        disk, name = self.machine.disk, self.service.name
        disk.writable()
        disk.remove_folder(incoming)
        cut = request.number("manifest_size")
        head, body = request.payload[:cut], request.payload[cut:][: request.number("size")]
        for path, part, size in (("release.json", head, cut), (name, body, request.number("size"))):
            disk.put(f"{incoming}/{path}", part, 0o444 if path == "release.json" else 0o555)
            if len(part) != size:
                raise HelperRefusal("short-copy", f"{len(part)} of {size} bytes arrived")
            self.step(f"{'manifest' if path == 'release.json' else 'artifact'} received")
        if self.digest(f"{incoming}/release.json") != request["manifest"]:
            raise HelperRefusal("bad-copy", "the manifest arrived altered")
        got = self.disk_digest(f"{incoming}/{name}")
        if got != request["release"]:
            raise HelperRefusal("bad-copy", f"read back from disk, the copy is {got}")
        said = self.service.version_line(f"{incoming}/{name}")
        wanted = head.decode("utf-8", "replace").rpartition('"version_line":"')[2].partition('"')[0]
        if said != wanted:
            raise HelperRefusal(
                "bad-version", f"it says it is '{said}', the manifest says '{wanted}'"
            )

    def _discard(self, folder: str) -> None:
        disk = self.machine.disk
        if not disk.read_only:
            disk.remove_folder(folder)
