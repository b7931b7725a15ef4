"""How a service of a rehearsal runs as a process, and how it is started and stopped."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from deploytool.errors import EnvironmentProblem
from deploytool.market.control import ControlFault, Json, ask

_START_S: Final = 30.0
_ASK_S: Final = 25.0
"""A market that trades at full load beside its hosts, on one machine, may take seconds."""
_STOP_S: Final = 5.0
_POLL_S: Final = 0.02
_LONGEST_SOCKET_PATH: Final = 107
_TOLD: Final = 2000


class MarketService(Protocol):
    """Something with a beginning and an end."""

    async def start(self) -> None:
        """Begin."""

    async def stop(self) -> None:
        """End."""


async def serve(service: MarketService) -> None:
    """Run until SIGTERM, SIGINT or the end of standard input.

    The last is the lifeline: whoever started this holds the other end, and if it is killed
    nothing of it goes on trading.
    """
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    await service.start()
    watcher = asyncio.create_task(_end_of_input(ended))
    await ended.wait()
    watcher.cancel()
    await service.stop()


async def _end_of_input(ended: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    try:
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    except ValueError:
        return  # a file or a closed descriptor is no lifeline: only signals end this
    while await reader.read(1 << 12):
        pass
    ended.set()


class MarketProcess:
    """A service in a process of its own, stopped by its PID when the block ends."""

    def __init__(self, module: str, arguments: list[str], control: Path, log: Path) -> None:
        self.control = control
        self._command = [sys.executable, "-m", module, *arguments, "--control", str(control)]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start it and wait until it answers."""
        if len(str(self.control)) > _LONGEST_SOCKET_PATH:
            raise EnvironmentProblem(
                f"{self.control}: a Unix socket's path has {_LONGEST_SOCKET_PATH} characters "
                "at most",
                "The rehearsal did not start; no fleet was touched.",
                "Use a folder with a shorter path, for instance: TMPDIR=/tmp",
            )
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=log, stderr=log
            )
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop it."""
        self.stop()

    @property
    def pid(self) -> int | None:
        """Its PID while it runs."""
        return None if self._process is None else self._process.pid

    def ask(self, command: str, timeout_s: float = _ASK_S, **arguments: object) -> Json:
        """Ask it something."""
        return ask(self.control, command, timeout_s, **arguments)

    def stop(self) -> None:
        """End it: politely, and after a deadline not."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_STOP_S)

    def _wait(self) -> None:
        end = time.monotonic() + _START_S
        while not self._answers():
            ended = self._process is None or self._process.poll() is not None
            if ended or time.monotonic() > end:
                told = self._log.read_text(errors="replace")[-_TOLD:].strip()
                raise EnvironmentProblem(
                    f"{' '.join(self._command)} {'ended' if ended else 'did not answer'}",
                    "The rehearsal has no market or no client; no fleet was touched.",
                    f"Read {self._log}",
                    tuple(told.splitlines()),
                )
            time.sleep(_POLL_S)

    def _answers(self) -> bool:
        """Whether it answers: it, and not an earlier one that still holds the socket."""
        try:
            return bool(self.ask("sessions", timeout_s=1.0)["pid"] == self.pid)
        except ControlFault:
            return False
