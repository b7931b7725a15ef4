"""The host side: what the helper does, verb by verb, on a machine in memory.

Kept beside the helper by the contract suite, which asks both the same things.
"""

from __future__ import annotations

from dataclasses import replace

from deploytool.simulation.copying import Copying
from deploytool.simulation.evidence import show
from deploytool.simulation.flags import Flags
from deploytool.simulation.helper_state import Say
from deploytool.simulation.locks import LockVerbs
from deploytool.simulation.machine import DiskError
from deploytool.simulation.request import HelperRefusal, HelperRequest, first_line, read


class Helper(LockVerbs, Copying, Flags):
    """The root-owned helper of one host."""

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
        except HelperRefusal as no:
            end = f"refused {no.code} {no.text}"
        body = "".join(f"{said}\n" for said in lines)
        nonce = request.nonce
        return f"\ndeploytool {nonce} begin\n{body}deploytool {nonce} end {end}\n".encode()

    def _do(self, request: HelperRequest, say: Say) -> None:
        if f"{self.state}/mutex" not in self.machine.disk.files:
            raise HelperRefusal("not-prepared", f"{self.root} lacks its folders")
        if request.verb == "probe":
            show(self, request, say)
        elif (verb := getattr(self, f"verb_{request.verb}", None)) is not None:
            verb(request, say)
        else:
            raise HelperRefusal("bad-request", "unknown verb")

    # --- changing what runs -------------------------------------------------------------------

    def verb_activate(self, request: HelperRequest, say: Say) -> None:
        """Switches and restarts; release none: nothing is to run. Then shows what is so now."""
        request.needs("release", "seconds")
        self.check_token(request)
        self.check_latch(request)
        self.write_mark("activating")
        self.keep_meaning(request["release"])
        self.service.unfence()
        none = request["release"] == "none"
        if none:
            self.remove("deadman", "verified")
        else:
            self._switch(request)
        if failed := self.service.stop():
            what = "service" if none else "old service"
            raise HelperRefusal("service", f"the {what} can't be stopped: {failed}")
        self.step("service stopped")
        if none:
            self.machine.disk.links.pop(f"{self.root}/current", None)
        elif failed := self.service.start(orphaned=self._orphaned()):
            say(f"start {failed}")
        self.step("service started")
        # Whether the host holds the release besides is no question.
        shown = {key: value for key, value in request.values.items() if key != "release"}
        show(self, replace(request, values=shown), say)

    def _switch(self, request: HelperRequest) -> None:
        target = f"releases/{request['release']}"
        if f"{self.root}/{target}/{self.service.name}" not in self.machine.disk.files:
            raise HelperRefusal("not-staged", f"{request['release']} is not on this host")
        self.remove("verified")
        self._arm_deadman(request)
        try:
            self.machine.disk.link(f"{self.root}/current", target)
        except DiskError as error:
            raise HelperRefusal("cannot-write", f"{self.root}/current can't be switched") from error
        self.step("link switched")

    def verb_confirm(self, request: HelperRequest, _say: Say) -> None:
        """Writes down that the deployer has seen this very process run the release."""
        request.needs("release", "pid", "start", "boot")
        self.check_token(request)
        main = self.machine.processes.get(self.service.main_pid)
        seen = (request.number("pid"), request.number("start"), request["boot"])
        if (
            main is None
            or (main.pid, main.start, self.machine.boot_id) != seen
            or self.linked() != request["release"]
        ):
            raise HelperRefusal("moved-on", "what was verified is not what runs now")
        if self.text("expired") is not None:
            text = "no confirmation came in time, and this host stopped serving"
            raise HelperRefusal("expired", text)
        self.remove("deadman")
        self.write_mark("confirmed")
        said = {key: request[key] for key in ("release", "pid", "start", "boot", "token")}
        self.put_pairs("verified", said)

    def verb_retire(self, request: HelperRequest, _say: Say) -> None:
        """This host serves no more, and a reboot does not change that."""
        self.check_token(request)
        self.keep_meaning("none")
        self.remove("verified", "deadman", "expired")
        if self.service.unit is not None:
            self.service.unit.masked = True
        if failed := self.service.stop():
            raise HelperRefusal("service", f"the service can't be stopped: {failed}")
        self.machine.disk.links.pop(f"{self.root}/current", None)
        if self.service.of_this_root():
            raise HelperRefusal("service", "a process still runs a release here")

    # --- dead-man -------------------------------------------------------------------------------

    def _arm_deadman(self, request: HelperRequest) -> None:
        self.remove("expired", *(["deadman"] if request["seconds"] == "0" else []))
        if request["seconds"] != "0":
            lines = (self.machine.boot_id, request["token"], request["seconds"])
            self.put("deadman", "".join(f"{line}\n" for line in lines))

    def _orphaned(self) -> bool:
        """Whether a confirmation is awaited since an earlier boot: then nothing is started."""
        lines = (self.text("deadman") or "").splitlines()
        return bool(lines) and lines[0] != self.machine.boot_id

    def boot(self) -> None:
        """What happens on the host after its power came back."""
        self.service.boot(orphaned=self._orphaned())

    def verb_expire(self, request: HelperRequest, _say: Say) -> None:
        """Called by the host's own timer: no confirmation came, so this host stops serving."""
        request.needs("token")
        lines = (self.text("deadman") or "").splitlines()
        if len(lines) < 2 or lines[1] != request["token"]:
            return
        self.put_pairs("expired", {"token": request["token"]})
        self.service.fence()
