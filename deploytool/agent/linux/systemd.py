"""The service as a unit of systemd, by ``systemctl`` and ``systemd-run``."""

from __future__ import annotations

import os

from deploytool.agent.linux.running import ProgramEnd, run
from deploytool.agent.model import Property
from deploytool.agent.port import UnitState
from deploytool.agent.words import TEXT_AT_MOST, is_word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from deploytool.agent.settings import Settings

ASK_S = 5.0
"""How long systemd may take over a question."""
MASK_S = 3.0
_LOG_AT_MOST = 1024 * 1024
_PROPERTIES = (
    "FragmentPath",
    "DropInPaths",
    "UnitFileState",
    "MainPID",
    "ControlGroup",
    "ActiveState",
    "SubState",
    "NRestarts",
    "NeedDaemonReload",
    "LoadState",
    "Result",
    "ExecMainCode",
    "ExecMainStatus",
)
_FOLDERS = (
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/run/systemd/generator.late",
)
"""Where systemd looks for a unit, what counts most first (systemd.unit(5))."""
_MASKS = ("/etc/systemd/system", "/run/systemd/system")
# The quotes are the shell's; the request is that of ``protocol``, whose verb has one number.
_EXPIRE = 'printf "deploytool/2 0 expire\\n{\\"token\\":%s}\\n" "$1" | "$2"'


class Systemd:
    """One service's unit."""

    def __init__(self, settings: Settings) -> None:
        self._unit = settings.unit
        self._timer = f"deploytool-deadman-{settings.name}"
        self._agent = settings.agent

    def state(self) -> UnitState:
        """What systemd says of the unit now.

        Raises:
            OSError: it does not answer.
        """
        ended = _systemctl("show", self._unit, f"--property={','.join(_PROPERTIES)}", wait_s=ASK_S)
        if ended.code != 0:
            raise OSError(f"systemctl show {self._unit}: {_complaint(ended)}")
        found = _parse(ended.output.decode("utf-8", "replace"))
        main = found.get("MainPID", "0")
        return UnitState(
            main=int(main) if main.isascii() and main.isdigit() else 0,
            active=_word(found.get("ActiveState", "")),
            sub=_word(found.get("SubState", "")),
            group=found.get("ControlGroup", ""),
            properties=tuple(
                Property(name=name, value=found[name]) for name in _PROPERTIES if name in found
            ),
        )

    def unit_files(self) -> tuple[str, ...]:
        """Every file that makes the unit, with its drop-ins, in systemd's order."""
        names = [f"{self._unit}.d", *_prefixes(self._unit), "service.d"]
        found = []
        for folder in _FOLDERS:
            if os.path.lexists(f"{folder}/{self._unit}"):
                found.append(f"{folder}/{self._unit}")
            for name in names:
                found += [f"{folder}/{name}/{entry}" for entry in _drop_ins(f"{folder}/{name}")]
        return tuple(found)

    def restart(self, deadline_s: float) -> str:
        """Restarts the unit; gives what systemd complains of, empty where it does not."""
        ended = _systemctl("restart", self._unit, wait_s=deadline_s)
        if ended.code == 0:
            return ""
        # A unit that died too often waits to be told that this is known.
        _systemctl("reset-failed", self._unit, wait_s=ASK_S)
        ended = _systemctl("restart", self._unit, wait_s=deadline_s)
        return "" if ended.code == 0 else _complaint(ended)

    def stop(self, deadline_s: float) -> str:
        """Ends the unit; gives why it could not, empty where it could."""
        ended = _systemctl("stop", self._unit, wait_s=deadline_s)
        if ended.code != 0:
            return _complaint(ended)
        _systemctl("reset-failed", self._unit, wait_s=ASK_S)
        return ""

    def mask(self) -> Literal["yes", "runtime", "no"]:
        """Keeps it from being started: for good, until the next boot, or not at all."""
        if _systemctl("mask", "--quiet", self._unit, wait_s=MASK_S).code == 0 or self._link():
            return "yes"
        ended = _systemctl("mask", "--runtime", "--quiet", self._unit, wait_s=MASK_S)
        return "runtime" if ended.code == 0 else "no"

    def _link(self) -> bool:
        """The mask by hand: without systemd's answer the link alone holds from the next boot."""
        path = f"{_MASKS[0]}/{self._unit}"
        draft = f"{_MASKS[0]}/.{self._unit}.{os.getpid()}"
        try:
            os.symlink("/dev/null", draft)
            os.rename(draft, path)
        except OSError:
            return False
        return True

    def unmask(self) -> None:
        """Lets it be started again.

        Raises:
            OSError: it could not be unmasked.
        """
        if not self.masked():
            return
        for option in ((), ("--runtime",)):
            ended = _systemctl("unmask", "--quiet", *option, self._unit, wait_s=ASK_S)
            if ended.code != 0:
                raise OSError(f"systemctl unmask {self._unit}: {_complaint(ended)}")

    def masked(self) -> bool:
        """Whether it is kept from being started: a mask is a link to /dev/null (systemctl(1))."""
        return any(_leads_nowhere(f"{folder}/{self._unit}") for folder in _MASKS)

    def set_timer(self, seconds: int, token: int) -> None:
        """Has ``expire`` asked of this host in so many seconds.

        Raises:
            OSError: the timer can't be set.
        """
        self.clear_timer()
        asks = ("/bin/sh", "-c", _EXPIRE, "sh", str(token), self._agent)
        when = (f"--on-active={seconds}s", "--timer-property=AccuracySec=100ms")
        words = ("systemd-run", "--quiet", "--collect", f"--unit={self._timer}", *when, "--", *asks)
        ended = run(words, deadline_s=ASK_S)
        if ended.code != 0:
            raise OSError(f"systemd-run --unit={self._timer}: {_complaint(ended)}")

    def clear_timer(self) -> None:
        """Takes that back. The mark decides: a timer that goes off all the same changes nothing."""
        _systemctl("stop", f"{self._timer}.timer", wait_s=ASK_S)

    def log(self, lines: int, *, own: bool) -> tuple[str, ...]:
        """The last lines of this boot; ``own``: what the service printed, without what systemd did.

        Raises:
            OSError: the journal can't be read.
        """
        of = f"_SYSTEMD_UNIT={self._unit}" if own else f"--unit={self._unit}"
        form = "cat" if own else "short-iso"
        asked = ("--boot", f"--lines={lines}", f"--output={form}", of)
        words = ("journalctl", "--no-pager", "--quiet", *asked)
        ended = run(words, deadline_s=ASK_S, output_at_most=_LOG_AT_MOST)
        if ended.code != 0:
            raise OSError(f"journalctl: {_complaint(ended)}")
        return tuple(ended.output.decode("utf-8", "replace").splitlines()[-lines:])

    def environment(self) -> tuple[str, ...]:
        """The variables that it gives every service it starts from now on.

        Raises:
            OSError: it does not answer.
        """
        ended = _systemctl("show-environment", wait_s=ASK_S)
        if ended.code != 0:
            raise OSError(f"systemctl show-environment: {_complaint(ended)}")
        return tuple(ended.output.decode("utf-8", "replace").splitlines())


def _systemctl(*words: str, wait_s: float) -> ProgramEnd:
    return run(("systemctl", *words), deadline_s=wait_s)


def _complaint(ended: ProgramEnd) -> str:
    """What it complained of, in one line; never empty."""
    said = " ".join(f"{ended.text} {ended.output.decode('utf-8', 'replace')}".split())
    return said[:TEXT_AT_MOST] or f"it ended with code {ended.code}"


def _parse(text: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in text.splitlines())
    return {name: value[:TEXT_AT_MOST] for name, equals, value in pairs if equals}


def _word(text: str) -> str:
    return text if is_word(text) else "unknown"


def _prefixes(unit: str) -> list[str]:
    """Folders of drop-ins for all units of a prefix: ``a-b.service`` has ``a-.service.d``."""
    stem, _, kind = unit.rpartition(".")
    ends = [at for at, character in enumerate(stem) if character == "-" and at + 1 < len(stem)]
    return [f"{stem[: at + 1]}.{kind}.d" for at in reversed(ends)]


def _drop_ins(folder: str) -> list[str]:
    try:
        return sorted(entry for entry in os.listdir(folder) if entry.endswith(".conf"))
    except OSError:
        return []


def _leads_nowhere(path: str) -> bool:
    try:
        return os.readlink(path) == "/dev/null"
    except OSError:
        return False
