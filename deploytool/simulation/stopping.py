"""Stop: a simulated host is halted, fenced and killed without a token, and started again."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from deploytool.fleet.sealed import unseal
from deploytool.fleet.signers import parse_signers
from deploytool.simulation.board import signer
from deploytool.simulation.helper_state import HelperState, Say
from deploytool.simulation.machine import DiskError
from deploytool.simulation.request import HelperRefusal, HelperRequest
from deploytool.simulation.service import Quirk
from deploytool.start.request import NO_STOP
from deploytool.start.request import StartRequest as Signable


class Stopping(HelperState):
    """The verbs of a stop, and the one that undoes it."""

    def check_latch(self, request: HelperRequest) -> None:
        """Makes sure that whoever changes a host that was stopped knew of it.

        Raises:
            HelperRefusal: it was stopped and fenced, or stopped since.
        """
        if self.text("fenced") is not None:
            text = "it was stopped and fenced; 'deploytool start' lets it in again"
            raise HelperRefusal("halted", text)
        halted = self.pairs("halted")
        if halted and request["latch"] != halted.get("latch"):
            raise HelperRefusal("halted", f"it was stopped (latch {halted.get('latch')})")

    def keep_meaning(self, to: str) -> None:
        """Keeps what served here when it was stopped, until it is started."""
        if self.text("halted") is None:
            self.remove("meant")
        elif self.text("meant") is None and self.linked() not in {"none", to}:
            self.put("meant", f"{self.linked()}\n")

    def _latch(self, request: HelperRequest, artifact: str = "") -> bool:
        said = "".join(f"{key} {request[key]}\n" for key in ("latch", "by", "reason", "since"))
        said += f"artifact {artifact}\n" if artifact else ""
        return self._write("halted", said)

    def _write(self, mark: str, text: str) -> bool:
        """Whether it could be written: a stop goes on without."""
        try:
            self.machine.disk.put(f"{self.state}/{mark}", text.encode())
        except DiskError:
            return False
        self.step(f"{mark} written")
        return True

    def verb_quiesce(self, request: HelperRequest, say: Say) -> None:
        """The artifact stops sending, but goes on running."""
        request.needs("by", "reason", "latch", "since", "seconds")
        only = request["only"]
        paths = [process.path for process in self.service.of_this_root()]
        mark = self.pairs("rollout")
        held = (self.linked(), mark.get("target", ""), mark.get("before", ""))
        if (
            only
            and not any(release.startswith(only) for release in held)
            and not any(f"{self.root}/releases/{only}" in path for path in paths)
        ):
            say("skipped another-release")
            return
        latched = self._latch(request)
        self._halt(request, say)
        for process in self.service.of_this_root():
            if process.pid != self.service.main_pid:
                say(f"stray {process.pid}")
        say(f"latched {'yes' if latched else 'no'}")

    def _halt(self, request: HelperRequest, say: Say) -> None:
        if not self.service.halts:
            say("halt none")
            return
        said = f"{self.service.name}: nobody answers\n"
        if self.service.main_pid and Quirk.SILENT not in self.service.quirks:
            self._write("service/halted", "")
            said = '{"latch": "disk", "trading_state": "HALTED"}\n'
            self._latch(request, "disk")
        elif not self.service.main_pid and self.service.resumes:
            # It latches without running: what is started next comes up halted.
            self._write("service/halted", "")
            said = '{"latch": "disk", "running": false, "trading_state": "HALTED"}\n'
            self._latch(request, "disk")
        say(f"halt {base64.b64encode(said.encode()).decode()}")

    def verb_fence(self, request: HelperRequest, say: Say) -> None:
        """Nothing revives it from here on."""
        request.needs("by", "reason", "latch", "since")
        self._latch(request)
        fenced = self._write("fenced", "")
        if self.service.unit is not None:
            self.service.unit.masked = True
            say("masked yes")
        say(f"fenced {'yes' if fenced else 'no'}")

    def verb_kill(self, request: HelperRequest, say: Say) -> None:
        """Every process of this root ends; a supervisor that was not fenced starts it again."""
        request.needs("seconds", "by", "reason", "latch", "since")
        killed = 0
        for process in self.service.of_this_root():
            if not process.stubborn:
                self.machine.kill(process.pid)
                killed += 1
        say(f"killed {killed}")
        self._halt(request, say)

    def verb_look(self, _request: HelperRequest, say: Say) -> None:
        """What is alive, who listens, and whether it was stopped."""
        for process in self.service.of_this_root():
            say(f"alive {process.pid}")
        for port in self.service.ports:
            if (owner := self.machine.owner(port)) is not None:
                say(f"owner {port} {owner}")
                say(f"open {port}")
        self.say_latch(say)

    def verb_latch(self, _request: HelperRequest, say: Say) -> None:
        """Whether this host was stopped, by whom, and why."""
        self.say_latch(say)

    def say_latch(self, say: Say) -> None:
        """The two marks of a stop, as a probe tells them too."""
        if (text := self.text("halted")) is not None:
            say(f"halted {text.replace(chr(10), ' ')}")
        if self.text("fenced") is not None:
            say("fenced")

    def verb_lease(self, request: HelperRequest, _say: Say) -> None:
        """No simulated artifact has a lease."""
        request.needs("lease")
        raise HelperRefusal("no-lease", "the inventory names no lease command")

    def _signed(self, request: HelperRequest, halted: Mapping[str, str]) -> bool:
        """Whether a signer, and not who asks, signed it for this host and the stop that holds."""
        try:
            content, signature = unseal(request.payload.decode())
            said = Signable.parse(content)
        except ValueError:
            return False
        file = self.machine.disk.files.get(self.signers)
        names = {s.name for s in parse_signers(file.content.decode(), "signers")} if file else ()
        who = signer(content, signature)
        return (
            who in names
            and who != said.by
            and (said.fleet, said.host) == (self.fleet, self.name)
            and said.latch == (halted.get("artifact") or halted.get("latch"))
            and self.machine.clock <= said.expires
        )

    def verb_resume(self, request: HelperRequest, say: Say) -> None:
        """Lets the host serve again, by the latch that it was stopped with."""
        request.needs("latch", "size")
        halted, fenced = self.pairs("halted"), self.text("fenced") is not None
        if not halted and not fenced:
            raise HelperRefusal("not-halted", "this host was not stopped")
        if halted and halted["latch"] != request["latch"]:
            raise HelperRefusal("other-latch", f"it was stopped again, by latch {halted['latch']}")
        # A start that was interrupted may have taken the fence away, and started nothing.
        starts = fenced or not self.service.main_pid
        if starts or not self.service.resumes:
            self._needs_second_person(request, halted)
        stop = halted.get("latch") or NO_STOP
        if not request.payload.partition(b"\n")[0].endswith(f',"stop":"{stop}"}}'.encode()):
            raise HelperRefusal("other-latch", f"what holds here now is stop {stop}")
        if starts:
            self._let_in()
        if self.service.resumes and not self._release(request, halted, say):
            return
        self.remove("meant")
        self.remove("halted")
        self.step("latch removed")
        say("released")

    def _needs_second_person(self, request: HelperRequest, halted: Mapping[str, str]) -> None:
        if self.signers and not self._signed(request, halted):
            raise HelperRefusal("not-signed", "no second person has signed this for the stop here")

    def _let_in(self) -> None:
        self.remove("fenced")
        self.step("fence removed")
        self.service.unfence()
        if self.linked() != "none":
            self.service.stop()
            self.service.start()
        self.step("service started")

    def _release(self, request: HelperRequest, halted: Mapping[str, str], say: Say) -> bool:
        """Whether the artifact, which checks the request itself, trades again."""
        trades = self.service.board() is not None and self._signed(request, halted)
        if trades:
            self.remove("service/halted")
            self.step("artifact released")
        said = '{"trading_state": "ACTIVE"}\n' if trades else f"{self.service.name}: refused\n"
        say(f"resume {base64.b64encode(said.encode()).decode()}")
        return trades
