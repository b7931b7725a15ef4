"""The service's own commands, as the agent runs them."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from deploytool.agent.model import Asked
from deploytool.simulation.memory import artifact, signing
from deploytool.simulation.memory.disk import fail
from deploytool.simulation.memory.run import Run
from deploytool.simulation.memory.service import MemoryService

_NO_ONE = 61184
COMMAND_S = 0.03
"""What an interpreted client takes."""


class MemoryCommands:
    """The port's commands. ``signers``: whom the signers file names."""

    def __init__(self, run: Run, service: MemoryService) -> None:
        self._run, self._service = run, service

    def run(self, argv: Sequence[str], *, given: bytes, deadline_s: float) -> Asked:
        """Runs one to its end."""
        return self._run_as(self._service.account, argv, given, deadline_s)

    def try_out(self, argv: Sequence[str], *, deadline_s: float) -> Asked:
        """Runs code that nothing has proven yet, to its end."""
        return self._run_as(_NO_ONE, argv, b"", deadline_s)

    def _run_as(self, account: int, argv: Sequence[str], given: bytes, deadline_s: float) -> Asked:
        run, computer = self._run, self._run.computer
        words = tuple(argv)
        run.point(f"run {' '.join(words)[-40:]}")
        client = computer.spawn(words, parent=run.task.pid, account=account, opens=words[0])
        try:
            computer.time.tick(min(COMMAND_S, deadline_s))
            said = artifact.ask(self._service, words, given)
            run.point(f"run {' '.join(words)[-40:]}, done")
        finally:
            computer.end(client)
        return Asked(way="command", code=said.code, answer=said.output, errors=said.errors)

    def ask_socket(
        self, path: str, line: str, peers: frozenset[tuple[int, int]], deadline_s: float
    ) -> Asked:
        """Asks the process behind a Unix socket: its lines are the words of its commands."""
        self._run.point(f"ask {path}")
        self._run.computer.time.tick(min(COMMAND_S / 10, deadline_s))
        socket, task = self._service.settings.socket, self._service.answering
        if socket is None or socket.path != path or task is None:
            fail(errno.ENOENT, path)
        if not self._run.computer.alive(task):
            fail(errno.ECONNREFUSED, path)
        if (task.pid, task.start) not in peers:
            fail(errno.EPERM, path)
        said = artifact.on_socket(self._service, line)
        self._run.point(f"ask {path}, done")
        return Asked(way="socket", code=0, answer=said)

    def signer(self, signature: str, signed: bytes, namespace: str) -> str | None:
        """Who of the signers file signed exactly this."""
        self._run.point("signer")
        path = self._service.settings.signers
        content = self._run.computer.read(path) if path else None
        who = signing.signer(signature, signed, namespace)
        known = {line.split(" ")[0] for line in (content or b"").decode().splitlines()}
        return who if who in known else None
