"""What to do first about a fleet that is not in parity. Pure.

Not everything is mended by deploying: a drop-in, a stray process or an altered agent outlives a
deployment, or forbids it. Advice names the first thing to do; the next ``status`` names the next.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from shlex import quote
from types import MappingProxyType

from deploytool.fleet.names import ROOT, UPWARDS
from deploytool.parity.beside_rules import lodgers, strays
from deploytool.parity.host_notices import down
from deploytool.parity.model import HostVerdict, Round, Verdict
from deploytool.parity.rules import short


class First(Enum):
    """What has to be done first about a finding, before anything else helps."""

    PREPARE = "deploytool host prepare"
    RELOAD = "systemctl daemon-reload"
    BY_HAND = "something on the host that no single command does"
    THEN_DEPLOY = "something that would still be there after a deployment, which comes next"


@dataclass(frozen=True)
class Remedy:
    """What to do about a finding; ``words`` for a person, without any word of a host."""

    first: First
    words: str = ""


def _by_a_person(words: str) -> Remedy:
    return Remedy(First.BY_HAND, words)


_PREPARE = Remedy(First.PREPARE)
_RELOAD = Remedy(First.RELOAD)
_UNSET = Remedy(First.THEN_DEPLOY, "unset in systemctl show-environment what the line names")
REMEDIES: Mapping[tuple[str, str], Remedy] = MappingProxyType(
    {
        ("agent", ""): _PREPARE,
        ("signers", ""): _PREPARE,
        ("members", ""): _PREPARE,
        ("members-listed", "strange"): _PREPARE,
        ("members-same", ""): _PREPARE,
        ("member", ""): _by_a_person(
            "see which machine it is: one that is gone leaves with 'deploytool host retire NAME "
            "--gone', and 'deploytool host prepare' makes the new one a member"
        ),
        ("rights", ""): _PREPARE,
        ("unit", "file"): _PREPARE,
        ("unit", "UnitFileState"): _PREPARE,
        ("unit", "LoadState"): _PREPARE,
        ("unit", "NeedDaemonReload"): _RELOAD,
        ("unit", "DropInPaths"): _RELOAD,
        ("unit", "FragmentPath"): _RELOAD,
        ("unit", "own-file"): _RELOAD,
        ("unit", "other-file"): _by_a_person("remove the file that the line names"),
        ("files", ""): _by_a_person(
            "put the configuration file there that is named, the same on every host"
        ),
        ("files-same", ""): _by_a_person(
            "make its configuration files what they are on the others"
        ),
        ("interpreter-same", ""): _by_a_person("install the interpreter that the others have"),
        ("drop-ins-same", ""): _by_a_person(
            "make the drop-ins for every service what they are on the others"
        ),
        ("clock", ""): _by_a_person("set its clock"),
        ("identity", ""): _by_a_person("give it a machine of its own, and a machine-id"),
        ("state", ""): _by_a_person(
            "make its state folder writable again (look at: findmnt; df -h; df -i)"
        ),
        ("sight", ""): _by_a_person(
            "let root inspect every process: it needs CAP_SYS_PTRACE there"
        ),
        ("starters", ""): _by_a_person(
            "disable or remove what the line names, so that only the unit starts the service"
        ),
        ("manager", ""): _by_a_person(
            "take out what the line names: systemctl unset-environment NAME"
        ),
        ("redirects", ""): _by_a_person(
            "remove the packet rule that the line names, or let root list them with nft"
        ),
        ("preload", ""): _by_a_person("make /etc/ld.so.preload readable, or remove it"),
        ("preload-same", ""): _by_a_person(
            "make /etc/ld.so.preload what it is on the others, and restart the service"
        ),
        ("marks", ""): _by_a_person(
            "repair or remove the damaged mark that the line names (docs/runbook.md)"
        ),
        ("mapped-same", ""): Remedy(
            First.THEN_DEPLOY, "install the libraries that the others have"
        ),
        ("libraries-same", ""): Remedy(
            First.THEN_DEPLOY, "install the libraries of the interpreter that the others have"
        ),
        ("running", "environment"): _UNSET,
        ("environment-same", ""): _UNSET,
    }
)
"""By the rule that found it, and the aspect. What isn't here is mended by a deployment, or is told
apart below by what the host showed. Advice is pasted into root's shell."""
UNLISTED = ("members-listed", "unlisted")
_RELEASE = re.compile(rf"{ROOT}/releases/[0-9a-f]{{64}}")


def remedy(taken: Round, inventory: str) -> str:
    """The first thing to do, with a command that can be pasted.

    Raises:
        ValueError: the round is proof, and there is nothing to do.
    """
    bad = [verdict for verdict in taken.hosts if verdict.verdict is not Verdict.MATCH]
    if not bad:
        raise ValueError("every host is a MATCH")
    again = f"deploytool status -i {quote(inventory)}"
    if trading := _trading(bad):
        stop = f"deploytool stop -i {quote(inventory)} {trading}"
        return f"They were stopped, and say that they trade: stop them again: {stop}"
    if escaped := [v.host for v in bad if any(f.rule == "halts" for f in v.findings)]:
        options = " ".join(f"--host {host}" for host in escaped)
        return (
            "A stop was for these hosts too, and they don't show it: stop them, and then start "
            f"them lawfully: deploytool stop -i {quote(inventory)} {options}"
        )
    if advice := _list_them(bad, inventory):
        return advice
    if (host := _starting(taken)) is not None:
        return (
            f"A start is under way on {host}, or was interrupted. If its deployer is gone, take "
            f"its lock away: deploytool rollback -i {quote(inventory)}"
        )
    if (host := _under_way(taken)) is not None:
        return (
            f"A rollout is under way or was interrupted (see {host}). If its deployer is gone, "
            f"undo it: deploytool rollback -i {quote(inventory)}, or finish it: "
            f"deploytool resume -i {quote(inventory)}"
        )
    if (hosts := _fenced(bad)) is not None:
        start = f"deploytool start -i {quote(inventory)} {hosts} --reason WHY --by YOU"
        return f"When the cause is gone: {start}"
    silent = [verdict.host for verdict in bad if verdict.evidence is None]
    if silent:
        return (
            f"See why {silent[0]} gives no answer (docs/runbook.md has what each means), "
            f"then: {again}"
        )
    return _by_hand(bad, again) or _with_deploytool(taken, bad, quote(inventory))


def readying(bad: Sequence[HostVerdict], inventory: str, prepare: str, again: str) -> str:
    """The first thing to do about hosts that answered and can't be deployed to.

    ``prepare``: the command that makes hosts ready, which mends much and not all. ``again``: the
    one that looks again.
    """
    if _unprepared(bad):
        return prepare
    return _list_them(bad, inventory) or _by_hand(bad, again) or prepare


def _by_hand(bad: Sequence[HostVerdict], again: str) -> str | None:
    """What has to be done on a host itself; None where there is nothing."""
    for verdict in bad:
        if commands := tuple(_commands(verdict)):
            return f"On {verdict.host}, as root: {' && '.join(commands)}; then: {again}"
    for verdict in bad:
        for item in _remedies(verdict):
            if item.first is First.BY_HAND:
                return f"On {verdict.host}, {item.words}, then: {again}"
    return None


def _unprepared(bad: Sequence[HostVerdict]) -> bool:
    return any(item.first is First.PREPARE for verdict in bad for item in _remedies(verdict))


def _with_deploytool(taken: Round, bad: list[HostVerdict], inventory: str) -> str:
    """What one of our own commands mends."""
    if _unprepared(bad):
        # Without systemd the deploy account prepares its hosts itself.
        units = any(v.evidence.unit for v in taken.hosts if v.evidence is not None)
        return f"deploytool host prepare -i {inventory}{' --admin root' if units else ''}"
    if armed := _armed(taken):
        commands = (f"deploytool flags disarm {flag} -i {inventory}" for flag in armed)
        return f"Flags are not the same everywhere; turn them off: {' && '.join(commands)}"
    release = short(taken.release) if taken.release else "RELEASE"
    disarm = " --disarm" if _said_armed(taken) else ""  # while a flag is armed it refuses
    deploy = f"deploytool deploy -i {inventory} {release}{disarm}"
    for verdict in bad:
        for item in _remedies(verdict):
            if item.first is First.THEN_DEPLOY:
                return f"On {verdict.host}, {item.words}, then: {deploy}"
    return deploy


def _armed(taken: Round) -> tuple[str, ...]:
    """The flags that some process says are armed, where not all say the same."""
    rules = {finding.rule for verdict in taken.hosts for finding in verdict.findings}
    return _said_armed(taken) if "armed-same" in rules else ()


def _said_armed(taken: Round) -> tuple[str, ...]:
    """The flags that some process says are armed."""
    said = [(v.evidence.status or {}).get("armed") for v in taken.hosts if v.evidence is not None]
    names = {str(name) for armed in said if isinstance(armed, (list, tuple)) for name in armed}
    return tuple(sorted(names))


def _list_them(bad: Sequence[HostVerdict], inventory: str) -> str | None:
    """What to do about members that the inventory does not list; None where there are none."""
    found = [f for v in bad for f in v.findings if (f.rule, f.aspect) == UNLISTED]
    if not (names := sorted({name for f in found for name in str(f.facts["hosts"]).split()})):
        return None
    retire = f"deploytool host retire {names[0]} -i {quote(inventory)} --gone --admin root"
    return (
        f"List {', '.join(names)} in {inventory} too, or, if {names[0]} is gone for good: {retire}"
    )


def _trading(bad: list[HostVerdict]) -> str:
    """The options that name the hosts which were stopped and don't say HALTED."""
    named = [v.host for v in bad if any(finding.rule == "halt" for finding in v.findings)]
    return " ".join(f"--host {host}" for host in named)


def _fenced(bad: list[HostVerdict]) -> str | None:
    """The options that name the hosts which only a start brings back; None where there is none."""
    seen = [(v.host, v.evidence) for v in bad if v.evidence is not None]
    named = [h for h, e in seen if e.halt is not None and (e.halt.fenced or down(e))]
    return " ".join(f"--host {host}" for host in named) if named else None


def _starting(taken: Round) -> str | None:
    """The first host that a start holds, where no rollout holds any."""
    shown = [(v.host, v.evidence.lock) for v in taken.hosts if v.evidence is not None]
    locked = [(host, lock.purpose) for host, lock in shown if lock is not None]
    return locked[0][0] if locked and {purpose for _, purpose in locked} == {"start"} else None


def _under_way(taken: Round) -> str | None:
    """The first host that says that a rollout began and did not end."""
    for verdict in taken.hosts:
        seen = verdict.evidence
        if seen is not None and (seen.lock or seen.hold or seen.rollout):
            return verdict.host
    return None


def _commands(verdict: HostVerdict) -> Iterator[str]:
    """What root has to do on the host itself, as commands.

    Of a host's own words they contain numbers of processes, and paths that were checked.
    """
    if (seen := verdict.evidence) is None:
        return
    if found := strays(seen):
        yield f"kill {' '.join(map(str, found))}"
    if any(finding.rule == "account" for finding in verdict.findings):
        # Interactive shells ignore SIGTERM; what merely has the account owes nobody a clean end.
        yield f"kill -KILL {' '.join(map(str, lodgers(seen)))}"
    found_by = {(finding.rule, finding.aspect) for finding in verdict.findings}
    files = [
        quote(finding.facts["path"])
        for finding in verdict.findings
        if (finding.rule, finding.aspect) == ("unit", "own-file")
    ]
    if seen.unit.get("LoadState") == "masked":
        return  # the file in the way is the mask, which preparation takes off
    if files:
        yield f"rm {' '.join(files)}"
    if any(item.first is First.RELOAD for item in _remedies(verdict)):
        yield "systemctl daemon-reload"
    replaced = ("disk", "artifact") in found_by  # a deployment brings another file
    if ("disk", "rights") in found_by and not replaced:
        path = f"{seen.root}/{seen.current}"
        if _RELEASE.fullmatch(path) and UPWARDS not in path:
            yield f"chown root:root {path}/* && chmod a-w {path}/*"


def _remedies(verdict: HostVerdict) -> Iterator[Remedy]:
    """What the table has for the findings of one host, in their order."""
    for finding in verdict.findings:
        if (item := REMEDIES.get((finding.rule, finding.aspect))) is not None:
            yield item
