"""``deploytool stop``, from the key press: reads the words, goes warm, and then beside it cold.

Its words are read by hand: importing what reads the other commands' would cost what a warm stop
takes in all.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

from deploytool.stop.watch_client import PATIENCE_S, WatchClient, ask

TYPE_CHECKING = False  # of typing itself, which takes longer to import than a host to halt
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from deploytool.errors import DeploytoolError
    from deploytool.stop.runner import Course

_HEXADECIMAL = frozenset("0123456789abcdef")
USAGE = "deploytool stop -i INVENTORY (--host HOST ... | --all | --release SHA) [--reason TEXT]"


class UsageError(Exception):
    """The words can't be followed. Nothing was stopped."""


class StopWords:
    """What was typed after ``stop``."""

    def __init__(self, arguments: list[str]) -> None:
        self.inventory = ""
        self.hosts: list[str] = []
        """Each once, however often it was named."""
        self.every = False
        self.release = ""
        self.reason = ""
        self.json = False
        words = list(arguments)
        while words:
            self._take(words.pop(0), words)
        chosen = bool(self.hosts) + self.every + bool(self.release)
        if chosen != 1:
            raise UsageError("say what to stop with one of --host, --all, --release")
        self.inventory = self.inventory or os.environ.get("DEPLOYTOOL_INVENTORY", "")
        if not self.inventory:
            raise UsageError("name the fleet's inventory with -i")
        if self.release and (len(self.release) < 6 or not set(self.release) <= _HEXADECIMAL):
            raise UsageError("--release takes a SHA-256, or at least its first six digits")

    def _take(self, word: str, rest: list[str]) -> None:
        key, equals, value = word.partition("=")
        if word in {"--all", "--json"}:
            self.every, self.json = self.every or word == "--all", self.json or word == "--json"
            return
        if key not in {"--host", "--release", "--reason", "--inventory", "-i"}:
            raise UsageError(f"there is no {word!r} here")
        if not equals:
            if not rest:
                raise UsageError(f"{key} lacks its value")
            value = rest.pop(0)
        if key == "--host":
            self.hosts += [value] * (value not in self.hosts)
        elif key == "--release":
            self.release = value.lower()
        elif key == "--reason":
            self.reason = value
        else:
            self.inventory = value


def who() -> str:
    """Who presses the key: user@machine. No directory is asked, which might hang."""
    user = os.environ.get("LOGNAME") or os.environ.get("USER") or str(os.getuid())
    return f"{user}@{os.uname().nodename}"


def _hold_on() -> None:
    """Makes sure that nothing around this process ends it half-way, or gets in its way.

    A terminal that hangs up is no reason to leave a host on the ladder; SIGTERM ends it as Ctrl-C
    does. What can't be printed is printed nowhere.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if sys.stdout is None or sys.stderr is None:
        nowhere = open(os.devnull, "w")  # noqa: SIM115, PTH123 it lives as long as this process
        sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere


def run(arguments: list[str], pressed_at: float | None = None) -> int:
    """Stops; gives the exit code. Whatever happens to what is printed, hosts are told first."""
    pressed = time.time() if pressed_at is None else pressed_at
    _hold_on()
    try:
        words = StopWords(arguments)
    except UsageError as error:
        return _misused(error)
    latch, by, reason = os.urandom(8).hex(), who(), words.reason or "no reason given"
    request: dict[str, object] = {
        "stop": words.hosts,
        "only": words.release,
        "latch": latch,
        "by": by,
        "reason": reason,
        "pressed": pressed,
    }
    try:
        warm, trouble = ask(words.inventory, request)
        if warm is not None:
            warm.listen(PATIENCE_S)
    except Exception as error:  # noqa: BLE001 whatever it is, the cold way goes past it
        warm, trouble = None, f"asking the watch of this machine broke: {error!r}"
    return _rest(words, (by, reason, latch, pressed), warm, trouble)


def _rest(
    words: StopWords, order: tuple[str, str, str, float], warm: WatchClient | None, trouble: str
) -> int:
    """What the warm way left, the witness, and the answer."""
    from deploytool.errors import DeploytoolError
    from deploytool.fleet.descriptors import make_room
    from deploytool.stop.runner import Course

    make_room()
    course = Course()
    try:
        return _answered(words, order, warm, trouble, course)
    except DeploytoolError as error:
        return _failed(error, {})
    except KeyboardInterrupt:
        return _failed(_interrupted(course), {"unended": list(course.unended)})
    except Exception as error:  # noqa: BLE001 the last line of defence: who is left is named
        return _broke(error, course)


def _interrupted(course: Course) -> DeploytoolError:
    """What is known of each host at this moment."""
    from deploytool.errors import Interrupted
    from deploytool.parity.words import UNSEEN, words
    from deploytool.stop.outcome import last_seen

    ends = course.climbed
    seen = {h: last_seen(ends[h]) if h in ends else UNSEEN for h in course.names}
    if not course.names:
        means = "Whether any host was stopped is not known; all of them may go on sending orders."
    elif course.unended:
        means = f"NOT shown to have stopped: {', '.join(course.unended)}. They may go on sending."
    else:
        means = f"All {len(course.names)} say that they stopped; their silence is NOT confirmed."
    return Interrupted(
        "Interrupted. Each host that could be reached was told to stop.",
        means,
        f"The same again: {_typed()}",
        tuple(f"{host}: {words(last).text}" for host, last in sorted(seen.items())),
    )


def _broke(error: Exception, course: Course) -> int:
    """A bug of ours: what it leaves open, by name, and where its report is."""
    from deploytool.cli.output import report_bug
    from deploytool.errors import StopNotConfirmed

    what = f"A bug of deploytool: {type(error).__name__}: {error}"
    try:
        where = f"Send us the report in {report_bug()}."
    except OSError as unwritten:
        where = f"Its report can't be written ({unwritten})."
    if isinstance(error, MemoryError):
        what, where = "This machine has no memory left for deploytool.", "Or run it elsewhere."
    if not course.names:
        means = "Whether any host was stopped is not known; all of them may go on sending orders."
    elif course.unended:
        means = f"NOT shown to have stopped: {', '.join(course.unended)}. They may go on sending."
    else:
        means = (
            f"All {len(course.names)} say that they stopped; nothing else was seen to confirm it."
        )
    said = StopNotConfirmed(
        what,
        means,
        f"The same again: {_typed()}. {where}",
        tuple(f"{host}: {one.end.value}" for host, one in sorted(course.climbed.items())),
    )
    return _failed(said, {"unended": list(course.unended)})


def _typed() -> str:
    import shlex

    return shlex.join(["deploytool", *sys.argv[1:]])


def _answered(
    words: StopWords,
    order: tuple[str, str, str, float],
    warm: WatchClient | None,
    trouble: str,
    course: Course,
) -> int:
    """Stops, and says what came of it."""
    from deploytool.cli.output import say
    from deploytool.stop.model import StopRequest
    from deploytool.stop.outcome import conclude, document, lines
    from deploytool.stop.runner import Pressed, stop

    by, reason, latch, pressed = order
    given = StopRequest(by, reason, latch, pressed, words.release)

    def shown(line: str) -> None:
        _whatever(lambda: say(line))

    answer = stop(Pressed(words.inventory, tuple(words.hosts), given), warm, trouble, shown, course)
    for line in lines(answer, _width()):
        shown(line)
    if answer.elsewhere:
        names = ", ".join(answer.elsewhere)
        shown(f"The market also heard {names}: not judged, another fleet's (silence.others).")
    if answer.way_back:
        shown("The inventory names no signers: only root on a host lets it trade again:")
        for line in answer.way_back:
            shown(f"  {line}")
    failed = conclude(answer, words.inventory)
    if failed is not None:
        return _failed(failed, document(answer))
    count, least = len(answer.targets), min(row.watched_s for row in answer.targets)
    shown(f"{count} of {count} stopped, and seen to be silent for {least:.1f} s or more.")
    _documented({"exit": 0, **document(answer)})
    return 0


def _width() -> int:
    """Columns of the terminal; of what is no terminal, enough that no line is broken."""
    import shutil

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 400


def _failed(error: DeploytoolError, said: dict[str, Any]) -> int:
    from deploytool.cli.output import error_document, show_error

    _documented({**error_document(error), **said})
    _whatever(lambda: show_error(error))
    return error.exit_code


def _documented(value: dict[str, Any]) -> None:
    from deploytool.cli.output import document

    _whatever(lambda: document(value))


def _whatever(show: Callable[[], None]) -> None:
    """Shows something. A full disk or a reader that has gone away is no reason to stop stopping."""
    try:
        show()
    except (OSError, ValueError):
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _misused(error: UsageError) -> int:
    from deploytool.cli.output import inventory_named
    from deploytool.errors import InputError

    what, usage = str(error), USAGE.replace("INVENTORY", inventory_named())
    said = InputError(f"{what[0].upper()}{what[1:]}.", "NOTHING WAS STOPPED.", usage)
    return _failed(said, {})
