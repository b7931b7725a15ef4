"""The host's verbs about flags: each asks the process that answers, or tells it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

from deploytool.errors import InputError
from deploytool.fleet.sealed import BYTES_AT_MOST
from deploytool.fleet.signers import parse_signers
from deploytool.simulation.board import Board, BoardRefusal
from deploytool.simulation.helper_state import HelperState, Say
from deploytool.simulation.request import HelperRefusal, HelperRequest


class Flags(HelperState):
    """The verbs that ask a host's process about its flags, and tell it."""

    def _armable(self) -> None:
        for mark in ("lock", "rollout", "held"):
            if (text := self.text(mark)) is not None:
                said = text.replace("\n", " ")
                raise HelperRefusal("changing", f"a rollout holds this host: {said}")

    def _client(self) -> bool:
        """Whether something can ask the process: what is active, or lies where it runs."""
        files, name = self.machine.disk.files, self.service.name
        main = self.machine.processes.get(self.service.main_pid)
        active = f"{self.root}/releases/{self.linked()}/{name}" in files
        return active or (main is not None and main.path in files)

    def _tell(self, say: Say, act: Callable[[Board, float, float], dict[str, object]]) -> None:
        if not self.commands:
            raise HelperRefusal(
                "no-flags", "the inventory of this host names no commands for flags"
            )
        if not self._client():
            raise HelperRefusal("nothing-active", "no release is active on this host")
        code, answer, errors = 1, "", f"{self.service.name}: nobody answers"
        board = self.service.board()
        if board is not None:
            try:
                said = act(board, self.machine.uptime_s, self.machine.clock)
                code, answer, errors = 0, json.dumps(said, sort_keys=True), ""
            except BoardRefusal as no:
                code, errors = 3, f"{self.service.name}: {no}"
        say(f"code {code}")
        for key, text in (("answer", answer), ("errors", errors)):
            say(f"{key} {base64.b64encode(text.encode()).decode()}".rstrip())
        self.step("told")

    def verb_flag_observe(self, _request: HelperRequest, say: Say) -> None:
        """What the process says of every flag."""
        self._tell(say, lambda board, now_s, _clock: board.observe(now_s))

    def verb_flag_prepare(self, request: HelperRequest, say: Say) -> None:
        """Without bytes: asks for a nonce; with: shows the process a sealed certificate."""
        request.needs("flag", "size")
        size, name = request.number("size"), request["flag"]
        if size > BYTES_AT_MOST:
            raise HelperRefusal("bad-request", f"a certificate has at most {BYTES_AT_MOST} bytes")
        self._armable()
        if len(sealed := request.payload[:size]) != size:
            raise HelperRefusal("short-copy", f"not all of {size} bytes arrived")
        if not size:
            self._tell(say, lambda board, now_s, _clock: board.nonce(name, now_s))
            return
        believed = self._believed()
        self._tell(say, lambda board, *now: board.promise(name, sealed, believed, *now))

    def _believed(self) -> tuple[str, ...]:
        file = self.machine.disk.files.get(self.signers)
        try:
            text = file.content.decode() if file else ""
            return tuple(signer.name for signer in parse_signers(text, self.signers))
        except (InputError, UnicodeDecodeError):
            return ()

    def verb_flag_commit(self, request: HelperRequest, say: Say) -> None:
        """Arms for a short while."""
        request.needs("flag")
        self._armable()
        self._tell(say, lambda board, *now: board.commit(request["flag"], *now))

    def verb_flag_settle(self, request: HelperRequest, say: Say) -> None:
        """Makes it last."""
        request.needs("flag")
        self._armable()
        self._tell(say, lambda board, now_s, _clock: board.settle(request["flag"], now_s))

    def verb_flag_disarm(self, request: HelperRequest, say: Say) -> None:
        """Off, whatever marks there are."""
        request.needs("flag")
        self._tell(say, lambda board, *now: board.disarm(request["flag"], *now))
