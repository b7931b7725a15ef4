"""One router: engine, sockets, control, drain, put together."""

import fcntl
import os
import socket
import time
from pathlib import Path
from typing import Any, Final

from router import control, recovery, wire
from router.arming import Arming, Identity
from router.clients import Session
from router.config import Config
from router.counters import Sent
from router.engine import Engine
from router.epochs import Epochs
from router.flags import Flags
from router.latch import BY_SIGNAL, HALTED, Latch
from router.lease import Lease
from router.loop import Loop
from router.orders import Child, User
from router.record import Record
from router.release import Process, Release
from router.signatures import Signatures
from router.soup import END
from router.subprocesses import Subprocesses
from router.venues import Venue

MAX_SESSIONS: Final = 64
MAX_ROWS: Final = 1000
# A moment for the last packets to be read before the process goes.
LINGER_S: Final = 0.05


class StartError(Exception):
    """The router can't start; the message says why and what would help."""


def lock(folder: Path) -> int:
    """Own the state folder until this process ends."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        raise StartError(f"{folder} belongs to a running router (pid {owner})") from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def listen(address: str) -> socket.socket:
    """Open the clients' door."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, int(port)))
        sock.listen(MAX_SESSIONS)
    except (OSError, ValueError, OverflowError) as error:
        raise StartError(f"can't listen on {address}: {error}") from error
    return sock


class Server:
    """Everything that one `router serve` runs."""

    def __init__(
        self,
        loop: Loop,
        release: Release,
        config: Config,
        folder: Path,
        host: str,
        address: str,
        *,
        signers: Path | None = None,
        fleet: str = "",
        lease_s: float = 0.0,
    ) -> None:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._lock = lock(folder)
        self._listener = listen(address)
        self._loop = loop
        self.release = release
        self.process = Process.read()
        self.host = host
        self.fleet = fleet
        self.subprocesses = Subprocesses(loop)
        self.signatures = Signatures(self.subprocesses, signers)
        flags = Flags(release.flags, config.commit_s)
        record = Record(recovery.next_path(folder))
        self.folder = folder
        self.engine = Engine(config, flags, Latch(folder), record, Lease(lease_s))
        self.venues = [
            Venue(self.engine, loop, index, release.sha256[:10])
            for index in range(len(config.venues))
        ]
        self.engine.venues = self.venues
        recovery.recover(self.engine, folder, record.path)
        self.engine.sent = Sent(self.engine.gate.sequence)
        record.header(
            {
                "host": host,
                "login": config.login,
                "release": release.sha256,
                "venues": [venue.name for venue in config.venues],
            }
        )
        record.write()
        identity = Identity(fleet, config.hosts, host, release.sha256)
        self.arming = Arming(identity, flags, Epochs(self.subprocesses, folder), self.signatures)
        flags.on_change = self._broadcast
        self._sessions: set[Session] = set()
        self._shown = b""
        self._drain_until_s = 0.0
        self.in_doubt_at_end = 0
        self.control = control.Control(self, loop, control.bind(folder))
        loop.add(self._listener.fileno(), self._accept)
        loop.after.append(self.after)
        loop.ticks.append(self.tick)

    # -- clients -------------------------------------------------------------------------------

    def _accept(self, _events: int) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        if len(self._sessions) >= MAX_SESSIONS:
            sock.close()
            return
        self._sessions.add(Session(self, self._loop, sock, time.monotonic()))

    def session_closed(self, session: Session) -> None:
        """Forget a client's connection; its parents stay."""
        self._sessions.discard(session)

    def take_over(self, user: User) -> None:
        """End the session that the user had, if any."""
        for session in list(self._sessions):
            if session.user is user:
                session.link.out += END
                session.link.flush()
                session.link.close("the user logged in again")

    def info(self) -> bytes:
        """Make SessionInfo: what a client trusts or doesn't."""
        flags = self.engine.flags
        return wire.PACK_INFO(
            wire.INFO_LENGTH, b"U", b"I", bytes.fromhex(self.release.sha256),
            bytes.fromhex(flags.digest), bytes.fromhex(flags.wire),
            self.host.encode()[:16].ljust(16), self.release.version.encode()[:16].ljust(16),
            flags.epoch, flags.known, flags.accepted, self.engine.trading_letter(),
        )  # fmt: skip

    def _broadcast(self) -> None:
        shown = self.info()
        if shown != self._shown:
            self._shown = shown
            for session in self._sessions:
                if session.user is not None:
                    session.link.out += shown

    # -- time ----------------------------------------------------------------------------------

    def after(self) -> None:
        """After each turn: look at the breakers, write the record, then let things go."""
        self.engine.turn(time.monotonic())
        for venue in self.venues:
            venue.flush()
        for session in list(self._sessions):
            session.link.flush()

    def tick(self, now_s: float) -> None:
        """Do what time itself asks for."""
        self.engine.look_at_lease()
        self.engine.flags.tick()
        self.control.tick(now_s)
        self.subprocesses.tick(now_s)
        for venue in self.venues:
            venue.tick(now_s)
        for session in list(self._sessions):
            session.tick(now_s)
        if self._drain_until_s:
            self._draining(now_s)

    # -- the end -------------------------------------------------------------------------------

    def halt_by_signal(self) -> None:
        """Halt without a client; one that comes later may say why and by whom."""
        self.engine.stop(HALTED, BY_SIGNAL, "")
        self.after()

    def drain(self) -> None:
        """Take no new parents, cancel what works, and go when it is quiet."""
        if not self._drain_until_s:
            self._drain_until_s = time.monotonic() + self.engine.config.drain_s
            self.engine.risk.draining = True
            self.engine.cancel_all()
            self._broadcast()

    def _draining(self, now_s: float) -> None:
        working = any(child.venue.up for child in self.engine.gate.children.values())
        if not working or now_s >= self._drain_until_s:
            self._stop()

    def _stop(self) -> None:
        self._loop.remove(self._listener.fileno())
        self._listener.close()
        self.control.close()
        self.subprocesses.close()
        self._loop.after.remove(self.after)
        self._loop.ticks.remove(self.tick)
        self.after()
        self.in_doubt_at_end = len(self.engine.gate.children) + len(self.engine.lost)
        for venue in self.venues:
            venue.end()
        for session in list(self._sessions):
            session.link.out += END
            session.link.flush()
        time.sleep(LINGER_S)
        for session in list(self._sessions):
            session.link.close("router stopped")
        self.engine.record.close()
        if not self.in_doubt_at_end:
            recovery.write_snapshot(self.engine, self.folder)
        os.close(self._lock)
        self._loop.stopping = True

    # -- questions -----------------------------------------------------------------------------

    def find_orders(self, token: str) -> list[dict[str, Any]]:
        """Say what a token is, or, without one, which children are in doubt."""
        live, lost = self.engine.gate.children, self.engine.lost
        key = token.encode("ascii", "replace")
        if token:
            child = live.get(key) or lost.get(key)
            found = {key: child} if child else {}
        else:
            down = {key: child for key, child in live.items() if not child.venue.up}
            found = {**down, **lost}
        return [self._row(key, found[key]) for key in list(found)[:MAX_ROWS]]

    def _row(self, token: bytes, child: Child) -> dict[str, Any]:
        parent = child.parent
        return {
            "token": token.decode(),
            "venue": child.venue.name,
            "leaves": child.leaves,
            "accepted": child.accepted,
            "in_doubt": token in self.engine.lost or not child.venue.up,
            "user": parent.user.name,
            "clordid": parent.clordid.decode().rstrip(),
            "symbol": parent.book.name,
            "side": parent.side.decode(),
        }
