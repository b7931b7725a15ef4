"""What a rollout's end means for a person and for a program. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from shlex import quote

from deploytool.core.finding import Finding
from deploytool.errors import DeploytoolError, Interrupted, NotProven, Refused, Restored
from deploytool.parity.model import HostVerdict, Parity, Round, Verdict
from deploytool.parity.remedies import remedy
from deploytool.parity.rules import first_trouble, short
from deploytool.release.model import Release
from deploytool.rollout.model import Purpose, State
from deploytool.rollout.report import Report
from deploytool.rollout.trading import RULE as TRADING
from deploytool.rollout.trading import still_halted

_BACK = frozenset(
    {State.TAKING_OVER_TO_UNDO, State.CHECKING_OLD, State.REVERTING, State.PROVING_OLD}
)
"""States of a rollout that has turned back."""


def host_lines(taken: Round) -> tuple[str, ...]:
    """A line for each host that is not a MATCH: name, verdict, release, reason."""
    return tuple(_lines(taken).values())


def _lines(taken: Round) -> dict[str, str]:
    return {
        v.host: f"{v.host}: {v.verdict.value}, on {_on(v)}: {first_trouble(v)}"
        for v in taken.hosts
        if v.verdict is not Verdict.MATCH
    }


def _on(verdict: HostVerdict) -> str:
    """What a host is on; "?" where it was not seen."""
    return "?" if verdict.evidence is None else short(verdict.release or "no release")


def not_proven(taken: Round, inventory: str, what: str) -> NotProven:
    """The end of a look at a fleet that is not in parity."""
    count = f"{taken.count(Verdict.MATCH)} of {len(taken.hosts)} hosts are proven"
    if not taken.evidence:
        means = "No host answered: nothing is known of the fleet."
    elif taken.release is None:
        means = "No release is active on any host that answered; nothing is proven."
    elif taken.parity is Parity.MIXED:
        means = f"The fleet is MIXED ({count} on {taken.label}). Arm no flag; change nothing else."
    else:
        means = f"The fleet is UNKNOWN ({count} on {taken.label}). Do not assume that it is well."
    error = NotProven(what, means, remedy(taken, inventory), host_lines(taken))
    error.found(taken.findings)
    return error


def left_behind(held: Mapping[str, str], inventory: str) -> NotProven:
    """The end of a look at a proven fleet that a rollout holds which no deployer is at any more."""
    inventory = quote(inventory)
    return NotProven(
        f"Every host is proven, and {len(held)} of them are held by a rollout that was abandoned.",
        "It is older than a rollout can take. No other can begin until it has ended.",
        f"Finish it: deploytool resume -i {inventory}, or undo it: deploytool rollback "
        f"-i {inventory}. {another_release(inventory)}",
        tuple(f"{host}: {why}" for host, why in held.items()),
    )


def conclude(report: Report, inventory: str) -> DeploytoolError | None:
    """None for an end that is proof (exit 0); else the error that says what happened.

    Raises:
        ValueError: the report is not at one of the table's ends.
    """
    error = _end(report, quote(inventory))
    return None if error is None else error.found(report.findings)


def _end(report: Report, inventory: str) -> DeploytoolError | None:
    trouble = tuple(item.line for _, item in sorted(report.trouble.items()))
    if report.state is State.DONE:
        if report.round is None or report.round.parity is not Parity.PARITY:
            raise ValueError("an end without a proof is no end")
        return _still_halted(report, report.round, inventory)
    if report.state is State.REFUSED:
        return _refused(report, inventory, trouble)
    if report.state is State.RESTORED:
        return _restored(report, inventory, trouble)
    if report.state is State.HELD:
        return _held(report, inventory, trouble)
    raise ValueError(f"{report.state} is not an end")


def refused(
    obstacles: Sequence[Finding], release: Release, purpose: Purpose, inventory: str
) -> DeploytoolError:
    """The refusal of a rollout that was only considered: the same words as where it was tried."""
    report = Report(purpose, State.REFUSED, release.label, release.digest)
    report.obstacles = tuple(obstacles)
    return _refused(report, quote(inventory), ()).found(report.obstacles)


def cut_short(label: str, inventory: str) -> Interrupted:
    """The end of a rollout whose user did not wait for it to bring back what it had switched."""
    return Interrupted(
        f"{label}: interrupted again, before it could bring back what it had switched.",
        "The fleet may be MIXED: what was under way ends on the hosts by itself, or not at all. "
        "Its locks are kept, so that no other rollout builds on it.",
        f"Undo it: deploytool rollback -i {quote(inventory)}, or finish it: "
        f"deploytool resume -i {quote(inventory)}",
    )


def _refused(report: Report, inventory: str, trouble: tuple[str, ...]) -> DeploytoolError:
    if report.interrupted:
        return Interrupted(
            "Interrupted before anything was changed.",
            "The fleet is as this found it.",
            f"deploytool status -i {inventory}",
            trouble,
        )
    rules = sorted({obstacle.rule for obstacle in report.obstacles}) or ["LOCK_REFUSED"]
    hosts = sorted({obstacle.host for obstacle in report.obstacles})
    locking = State.LOCKING in report.path
    locks = "locks that were taken were released" if locking else "no lock was taken"
    return Refused(
        rules[0],
        f"Refused by {', '.join(rules)}: {', '.join(hosts)}.",
        f"Nothing was changed: no host was switched, and {locks}.",
        _way_out(rules, report, inventory),
        tuple(o.line for o in report.obstacles) or trouble,
    )


def _way_out(rules: list[str], report: Report, inventory: str) -> str:
    again = f"deploytool plan -i {inventory} {short(report.release)}"
    if "PREFLIGHT_REACHABLE" in rules or "RESUME_REACHABLE" in rules:
        dark = next(o.host for o in report.obstacles if o.rule.endswith("_REACHABLE"))
        why = f"See why {dark} gives no answer (docs/runbook.md has what each means)"
        return f"{why}, then: deploytool status -i {inventory}"
    if unfinished := _unfinished_way_out(rules, report, inventory):
        return unfinished
    if flags := _flags_way_out(rules, report, inventory):
        return flags
    if "PREFLIGHT_STOPPED" in rules:
        start = f"deploytool start -i {inventory} --all --reason WHY --by YOU"
        return f"When its cause is gone: {start}"
    if "PREFLIGHT_ROOT" in rules:
        check = f"deploytool host prepare -i {inventory} --admin root"
        return f"Set service.supervisor to systemd in {inventory}, then: {check}"
    if rules == ["PLAN_MOVED"]:
        return f"See what would be done now: {again}"
    if "PREFLIGHT_HOST" in rules:
        return f"deploytool host check -i {inventory}, fix what it names, then: {again}"
    return f"Fix what the lines name, then: {again}"


def _unfinished_way_out(rules: list[str], report: Report, inventory: str) -> str:
    """What to do where another rollout did not end, or where none has to; else nothing."""
    if "RESUME_DIRECTION" in rules:
        return _both_ways(report, inventory)
    if "NOTHING_INTERRUPTED" in rules:
        if report.purpose is Purpose.SUPERSEDE:
            release = short(report.release)
            return f"There is nothing to take over: deploytool deploy -i {inventory} {release}"
        return f"There is nothing to finish or to undo: deploytool status -i {inventory}"
    if {"PREFLIGHT_LOCK", "LOCK_HELD"} & {*rules}:
        return (
            "Wait for that deployer. If it is gone, finish what it left: "
            f"deploytool resume -i {inventory}, or undo it: deploytool rollback -i {inventory}. "
            f"{another_release(inventory)}"
        )
    if {"RESUME_TARGET", "RESUME_RELEASE"} & {*rules}:
        return another_release(inventory)
    return ""


def another_release(inventory: str) -> str:
    """What ends a rollout of a release that can't be finished, where the one before can't be had.

    ``inventory``: quoted.
    """
    return f"To go to another release: deploytool deploy -i {inventory} RELEASE --take-over"


def _both_ways(report: Report, inventory: str) -> str:
    """What ends a rollout that has turned back; the way that is meant comes last."""
    return (
        f"{another_release(inventory)}. "
        f"To go on to {report.label} all the same: deploytool resume --forward -i {inventory}. "
        "To finish going back, mend what the lines name, then: "
        f"deploytool rollback -i {inventory}"
    )


def _command(report: Report, inventory: str) -> str:
    """The command that this rollout was."""
    if report.purpose in {Purpose.RESUME, Purpose.ROLLBACK}:
        return f"deploytool {report.purpose.value} -i {inventory}"
    over = " --take-over" if report.purpose is Purpose.SUPERSEDE else ""
    return f"deploytool deploy -i {inventory} {short(report.release)}{over}"


def _flags_unknown(report: Report, inventory: str) -> str:
    """A process that does not say what is armed is ended: one that starts has every flag off."""
    again = f"deploytool deploy -i {inventory} {short(report.release)}"
    for obstacle in report.obstacles:
        if obstacle.rule == "FLAGS_UNKNOWN" and (pid := obstacle.facts.get("process")):
            return f"On {obstacle.host}, as root: kill {pid}; then: {again}"
    return f"deploytool flags status -i {inventory} shows what each host says; then: {again}"


def _flags_way_out(rules: list[str], report: Report, inventory: str) -> str:
    """What ends it that a flag stands in the way; nothing where none does."""
    if "FLAG_LIVE_UNREADABLE" in rules:
        again = f"deploytool plan -i {inventory} {short(report.release)}"
        return f"Deploy again there what can be read, or retire that host first; then: {again}"
    if any(rule.startswith("FLAG_") for rule in rules):
        return (
            "Give each flag a bit and a name of its own, and build that "
            f"(deploytool flags lint -i {inventory} checks it against what is live); "
            f"then: deploytool plan -i {inventory} RELEASE"
        )
    armed = {o.facts["flag"] for o in report.obstacles if o.rule == "FLAGS_ARMED"}
    if armed:
        commands = (f"deploytool flags disarm {flag} -i {inventory}" for flag in sorted(armed))
        itself = f"{_command(report, inventory)} --disarm"
        return f"{' && '.join(commands)}; or let it be done first: {itself}"
    if "FLAGS_UNKNOWN" in rules:
        return _flags_unknown(report, inventory)
    if "FLAGS_READ_DIFFERENTLY" in rules:
        return (
            f"Have the senders withdraw those bits (deploytool flags disarm FLAG -i {inventory}), "
            f"or halt the hosts first: deploytool stop --all -i {inventory}"
        )
    return ""


def _restored(report: Report, inventory: str, trouble: tuple[str, ...]) -> DeploytoolError | None:
    taken = report.round
    if taken is None:
        raise ValueError("nothing is restored without a proof")
    before = sorted({short(release or "no release") for release in report.before.values()})
    count = f"all {len(report.before)} hosts are proven to be what they were: {', '.join(before)}"
    again = f"deploytool deploy -i {inventory} {short(report.release)}"
    failed = f"{report.label} was NOT deployed"
    mixed = len(before) > 1 or (taken.parity is not Parity.PARITY and taken.release is not None)
    if report.interrupted:
        text = f"Brought back; {count}."
        return Interrupted(f"{failed}: interrupted.", text, again, trouble)
    if mixed:
        when = "was not in parity before" if len(before) > 1 else "is not in parity now"
        return NotProven(
            f"{failed}.",
            f"Brought back; {count}. The fleet {when}: {taken.parity.value}.",
            f"deploytool status -i {inventory}",
            (*trouble, *host_lines(taken)),
        )
    if report.purpose is Purpose.ROLLBACK:
        return _still_halted(report, taken, inventory)
    now = f"Fix what the lines name, then: {again}"
    return Restored(f"{failed}.", f"Brought back; {count}.", now, trouble)


def _still_halted(report: Report, taken: Round, inventory: str) -> NotProven | None:
    """The end of a proven rollout that left hosts HALTED, as they were before; None without one."""
    halted = still_halted(taken.evidence)
    if not halted or report.may_be_halted:
        return None
    done = "is undone" if report.purpose is Purpose.ROLLBACK else "is deployed"
    chosen = "--all" if len(halted) == len(taken.hosts) else " ".join(f"--host {h}" for h in halted)
    return NotProven(
        f"{report.label} {done} and proven on all {len(taken.hosts)} hosts; "
        f"{len(halted)} of them are still HALTED.",
        "They were HALTED before, send no orders, and stay so. No lock is left.",
        f"When the cause is gone: deploytool start -i {inventory} {chosen} --reason WHY --by YOU. "
        "A rollout that is to leave hosts HALTED takes --halted.",
        tuple(f"{host}: {why}" for host, why in halted.items()),
    )


def _held(report: Report, inventory: str, trouble: tuple[str, ...]) -> DeploytoolError:
    lines = _lines(report.round) if report.round else {}
    details = (*trouble, *(line for host, line in lines.items() if host not in report.trouble))
    if report.journal is not None:
        details = (*details, *(f"journal: {text}" for text in (report.journal.what,)))
    kind: type[DeploytoolError] = Interrupted if report.interrupted else NotProven
    done = [state for state in report.path if state not in {State.HOLDING, State.HELD}]
    last = done[-1] if done else State.CHECKING
    proven = report.round is not None and report.round.parity is Parity.PARITY
    if proven and last in {State.UNLOCKING, State.UNLOCKING_RESTORED}:
        means = "What runs was proven; since then a lock was lost, or could not be released."
    elif last is State.UNLOCKING_REFUSED:
        means = "Nothing was switched, but a host may hold a lock that could not be released."
    else:
        means = "The fleet is MIXED or UNKNOWN; its locks are kept, so that nothing builds on it."
    if report.stopped:
        means = f"A host was stopped meanwhile, and the rollout is on hold. {means}"
    resume = f"deploytool resume -i {inventory}"
    rollback = f"deploytool rollback -i {inventory}"
    if _BACK & {*report.path}:
        now = _both_ways(report, inventory)
    else:
        now = f"Finish it: {resume}, or undo it: {rollback}. {another_release(inventory)}"
    if any(finding.rule == TRADING for finding in report.findings):
        now = f"{now}. Where hosts may stay HALTED, add --halted"
    return kind(f"{report.label}: stopped while {last.value}.", means, now, details)
