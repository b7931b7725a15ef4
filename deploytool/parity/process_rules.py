"""Judges what the main process was started with, has loaded, and could leave behind. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from deploytool.agent.acting import ARGUMENTS_AT_MOST, ARGUMENTS_SHOWN
from deploytool.agent.model import FileDigest
from deploytool.agent.words import TEXT_AT_MOST, is_digest
from deploytool.core.finding import Finding, Level
from deploytool.parity.model import Evidence, Expected
from deploytool.parity.rules import named, short, unseen, wrong

INTERPRETER_WORDS_AT_MOST = 8
"""So many words an interpreter and its options may be, before the artifact's own path."""
_CONFIGURATION = "running configuration"


def config_digest(files: Iterable[FileDigest]) -> str:
    """What ``status`` shows as ``config`` (docs/contract.md, section 3)."""
    lines = "".join(f"{file.sha} {file.path}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def started_rule(expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """The process runs the configuration that the files have now.

    An artifact that can says what it read. Of one that can't, the agent has noted what the files
    held when it started it; contents decide, and times nothing.
    """
    now, main = evidence.shown.configs, evidence.processes.get(evidence.main_pid)
    if expected.release is None or not now or main is None:
        return  # other rules say that there is no process, or that a file can't be read
    said = (evidence.status or {}).get("config")
    if is_digest(said):
        if all(file.sha is not None for file in now) and said != config_digest(now):
            yield wrong(_CONFIGURATION, "what the files hold now", f"another: {short(said)}")
        return
    mark = evidence.shown.started
    if mark is None or (mark.boot, mark.pid, mark.start) != (evidence.boot, main.pid, main.start):
        why = f"{named(evidence, main.pid)} was not started by deploytool: what it read is unknown"
        yield unseen(_CONFIGURATION, "noted when the process was started", why)
        return
    then = {file.path: file for file in mark.configs}
    for file in now:
        if file.sha is not None:
            yield from _changed(file, then.get(file.path))


def _changed(now: FileDigest, then: FileDigest | None) -> Iterator[Finding]:
    what = f"{_CONFIGURATION} {now.path}"
    if then is None:
        yield unseen(what, "noted when the process was started", "it was not noted")
    elif then.missing:
        yield wrong(what, "there when the process was started", "it was missing then")
    elif then.sha is None:
        yield unseen(what, "the same all through the start", "it was changed meanwhile")
    elif then.sha != now.sha:
        yield wrong(
            what, f"{short(then.sha)} as the process was started with", f"{short(now.sha)} now"
        )


def running_rule(expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """The process was started as the unit says, and nothing made it load other code.

    A process that shows other arguments altogether (it executed another program, or set its title)
    is compared with the other hosts alone.
    """
    if expected.release is None or not evidence.main_pid:
        return
    running = evidence.shown.running
    if running is None:
        yield unseen("main process", "its arguments and mapped files", "they could not be read")
        return
    if unread := sum(file.sha is None for file in running.mapped):
        # The mapping is closed to root without CAP_SYS_ADMIN, and its name may be gone.
        text = f"{unread} of {len(running.mapped)} mapped files are compared by their paths alone"
        yield Finding(Level.NOTE, "mapped files", "", text)
    if expected.arguments[:1] and expected.arguments[0] not in running.arguments:
        return
    if interpreter_words(expected.arguments, running.arguments) is None:
        found = " ".join(running.arguments)
        yield wrong("arguments", " ".join(expected.arguments), found[:200])
    yield from _variables(expected.environment, running.environment)


def _variables(wanted: tuple[str, ...], shown: tuple[str, ...]) -> Iterator[Finding]:
    """What the unit sets is there; what loads code is as the unit sets it, or is not there.

    The values of others may be secrets, and are not shown.
    """
    said = {variable.partition("=")[0]: variable for variable in wanted}
    for variable in shown:
        name, has_value, _ = variable.partition("=")
        meant = said.pop(name, None)
        if has_value and meant is not None and variable != meant[:TEXT_AT_MOST]:
            yield wrong("environment", meant[:200], variable[:200])
        elif has_value and meant is None and name != "PATH":
            nothing = "no variable that loads other code"
            yield wrong("environment", nothing, variable[:200], "environment")
    for meant in said.values():
        yield wrong("environment", meant[:200], "it is not set")


def interpreter_words(wanted: tuple[str, ...], shown: tuple[str, ...]) -> tuple[str, ...] | None:
    """What stands before the unit's own arguments: an interpreter and its options (execve(2)).

    None: the arguments are others. A look shows the beginning of long ones alone.
    """
    if not wanted or wanted[0] not in shown:
        return None
    at = shown.index(wanted[0])
    found = shown[at:]
    length = sum(len(word.encode()) + 1 for word in shown)
    if len(shown) >= ARGUMENTS_SHOWN or length >= ARGUMENTS_AT_MOST:
        found = found[:-1]  # the last one may be cut
        wanted = wanted[: len(found)]
    return shown[:at] if found == wanted and at <= INTERPRETER_WORDS_AT_MOST else None


def preload_rule(expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """It is known which libraries every program of this host loads (ld.so(8))."""
    if expected.unit_path is None:
        return
    found = evidence.shown.preload
    if found is None:
        yield unseen("/etc/ld.so.preload", "its digest, or that it is missing", "it was not shown")
    elif found.sha is None and not found.missing:
        yield unseen("/etc/ld.so.preload", "its digest, or that it is missing", "it can't be read")


def manager_rule(expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """The service manager makes nothing that it starts from now on load other code."""
    if expected.unit_path is None or not expected.surroundings:
        return
    if evidence.shown.manager is None:
        yield unseen("environment of systemd", "shown", "systemd did not show it")
    for variable in evidence.shown.manager or ():
        name, has_value, _ = variable.partition("=")
        if has_value and name != "PATH":
            what = "no variable that loads other code into what it starts next"
            yield wrong("environment of systemd", what, variable[:200])


def redirects_rule(expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """No packet rule sends the traffic of a declared port elsewhere."""
    if expected.unit_path is None or not expected.surroundings:
        return
    for rule in evidence.shown.redirects or ():
        yield wrong("redirects", "none of a port of the service", rule[:200])
    if evidence.shown.redirects is None:
        why = evidence.shown.redirects_unknown or "they were not inspected"
        if expected.redirects_checked:
            yield unseen("redirects", "none of a port of the service", why)
        else:
            yield Finding(Level.NOTE, "redirects", "", f"packet rules are not inspected: {why}")


def state_rule(_expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """A stop could leave its latch here: it was tried in this round."""
    shown = evidence.shown
    if shown.state_writable is None:
        yield unseen("state folder", "writable, so that a stop can hold", "it was not tried")
    elif not shown.state_writable:
        why = shown.state_error or "it can't be written"
        yield wrong("state folder", "writable, so that a stop can hold", why)


def marks_rule(_expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """Every mark that is there can be read: one that can't may say the worst that it could."""
    for name in evidence.marks.unreadable:
        yield unseen(f"mark state/{name}", "readable", "it is there, and damaged or unreadable")
