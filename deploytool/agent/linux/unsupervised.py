"""The service where nothing supervises it: the agent starts it, and leaves it to itself."""

from __future__ import annotations

import os
import time

from deploytool.agent.linux.opening import read_regular
from deploytool.agent.linux.proc import process_of, start_of
from deploytool.agent.linux.running import detach
from deploytool.agent.port import Interest, UnitState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from deploytool.agent.port import Processes
    from deploytool.agent.settings import Settings

_PAUSE_S = 0.1
_AGAIN_S = 1.0
"""How often a process that does not end is signalled again."""
_TERM, _KILL = 15, 9
_PID_AT_MOST = 64
_LOG_AT_MOST = 65536
_NOT_STARTED = 70
_EXPIRE = 'sleep "$1"; printf "deploytool/2 0 expire\\n{\\"token\\":%s}\\n" "$2" | "$3"'


class Unsupervised:
    """One service, known by its pid file and by the release root that its processes run from."""

    def __init__(self, settings: Settings, processes: Processes) -> None:
        self._settings = settings
        self._processes = processes
        self._root = os.path.realpath(settings.root)
        self._state = f"{self._root}/state"

    def state(self) -> UnitState:
        """What the pid file says, where that very process still runs."""
        main = self._main()
        return UnitState(
            main=main,
            active="active" if main else "inactive",
            sub="running" if main else "dead",
        )

    def _main(self) -> int:
        try:
            words = read_regular(f"{self._state}/pid", _PID_AT_MOST, follow=False).split()
            pid, start = (int(word) for word in words)
        except (OSError, ValueError):
            return 0
        found = process_of(pid)
        return pid if found and found.start == start and found.state not in ("Z", "X") else 0

    def unit_files(self) -> tuple[str, ...]:
        """None: nothing but the agent starts it."""
        return ()

    def restart(self, deadline_s: float) -> str:
        """Ends what runs, and starts the service; gives what went wrong, empty where nothing did.

        Raises:
            OSError: it can't be started.
        """
        left = self.stop(deadline_s)
        if left:
            return left
        self._start()
        return ""

    def _start(self) -> None:
        try:
            os.unlink(f"{self._state}/pid")
        except FileNotFoundError:
            pass
        argv = self._settings.start.filled(current=f"{self._root}/current")
        log = os.open(f"{self._state}/service/log", _LOG, 0o640)
        try:
            detach(argv, log, self._announce)
        finally:
            os.close(log)

    def _announce(self) -> None:
        """Writes the pid file, in the process that is about to become the service.

        It looks for the mark of a stop afterwards: a stop finds this process there, or is found.
        """
        pid = os.getpid()
        draft = f"{self._state}/pid.new"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        os.write(descriptor, b"%d %d\n" % (pid, start_of(pid) or 0))
        os.rename(draft, f"{self._state}/pid")
        if os.path.lexists(f"{self._state}/fenced"):
            os._exit(_NOT_STARTED)

    def stop(self, deadline_s: float) -> str:
        """Ends every process that runs a release of this root; gives why it could not.

        As long as a service may take they are asked to end, then they are killed. One that only
        names the artifact among its arguments, such as a pager, is not the service.
        """
        begun = time.monotonic()
        patience = min(float(self._settings.stop_s), deadline_s / 2)
        told: dict[int, float] = {}
        while True:
            left = self._running()
            if not left:
                return ""
            now = time.monotonic()
            if now - begun > deadline_s:
                return f"process {min(left)} does not end, even when killed"
            number = _TERM if now - begun < patience else _KILL
            for pid, start in left.items():
                if now - told.get(pid, 0.0) >= _AGAIN_S:
                    told[pid] = now
                    self._processes.signal(pid, start, number)
            time.sleep(_PAUSE_S)

    def _running(self) -> dict[int, int]:
        """Who runs a release of this root, with the start time of each."""
        releases = f"{self._root}/releases"
        found = {}
        for view in self._processes.survey(Interest(root=releases, whole=False)):
            runs = any(
                file.how != "argument"
                and not file.path.startswith(f"{releases}/.incoming.")
                and (file.how == "exe" or file.path.endswith(f"/{self._settings.name}"))
                for file in view.files
            )
            if runs and view.process.state not in ("Z", "X"):
                found[view.process.pid] = view.process.start
        return found

    def mask(self) -> Literal["yes", "runtime", "no"]:
        """Nothing starts it but the agent, which heeds the marks of a stop."""
        return "yes"

    def unmask(self) -> None:
        """See ``mask``."""

    def masked(self) -> bool:
        """See ``mask``: the mark ``fenced`` is what keeps it from being started."""
        return os.path.lexists(f"{self._state}/fenced")

    def set_timer(self, seconds: int, token: int) -> None:
        """Has ``expire`` asked of this host in so many seconds, by a process that outlives us."""
        words = (str(seconds), str(token), self._settings.agent)
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            detach(("/bin/sh", "-c", _EXPIRE, "sh", *words), nowhere)
        finally:
            os.close(nowhere)

    def clear_timer(self) -> None:
        """The mark decides: a timer that goes off all the same changes nothing."""

    def log(self, lines: int, *, own: bool) -> tuple[str, ...]:
        """The last lines of what the service printed."""
        del own  # nothing else writes there
        path = f"{self._state}/service/log"
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            size = os.fstat(descriptor).st_size
            tail = os.pread(descriptor, _LOG_AT_MOST, max(0, size - _LOG_AT_MOST))
        finally:
            os.close(descriptor)
        return tuple(tail.decode("utf-8", "replace").splitlines()[-lines:])

    def environment(self) -> tuple[str, ...]:
        """It gives none but its own (see ``running.ENVIRONMENT``)."""
        return ()


_LOG = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
