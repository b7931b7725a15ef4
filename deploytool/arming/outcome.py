"""What the end of an arming or a disarming means for a person and for a program. Pure."""

from __future__ import annotations

from shlex import quote

from deploytool.arming.model import OFF
from deploytool.arming.report import Report
from deploytool.arming.table import Purpose, State
from deploytool.errors import (
    DeploytoolError,
    InputError,
    Interrupted,
    NotProven,
    Refused,
    Restored,
)

_NO_OBSTACLE = {
    State.ASKING: "ARM_NONCE",
    State.CERTIFYING: "ARM_CERTIFICATE",
    State.PREPARING: "ARM_PROMISE",
}
"""Where it was refused without an obstacle: by a router, or because nobody could sign."""


def conclude(report: Report, inventory: str, key: str | None = None) -> DeploytoolError | None:
    """None for an end that was asked for and observed (exit 0); else what happened.

    ``key``: the file that was named to sign with, for the command that does it again.

    Raises:
        ValueError: the report is not at one of the table's ends.
    """
    error = _end(report, quote(inventory), key)
    return None if error is None else error.found(report.findings)


def _end(report: Report, inventory: str, key: str | None) -> DeploytoolError | None:
    if report.state is State.ARMED:
        return None
    if report.state is State.REFUSED:
        return _refused(report, inventory, _again(report, inventory, key))
    if report.state is State.OFF:
        return _off(report, _again(report, inventory, key))
    if report.state is State.NAMED:
        return _named(report, inventory)
    raise ValueError(f"{report.state} is not an end")


def _trouble(report: Report) -> tuple[str, ...]:
    return tuple(item.line for _, item in sorted(report.trouble.items()))


def _again(report: Report, inventory: str, key: str | None) -> str:
    with_key = f" --key {quote(key)}" if key else ""
    return f"deploytool flags arm {report.flag} -i {inventory}{with_key}"


def _refused(report: Report, inventory: str, again: str) -> DeploytoolError:
    if report.interrupted:
        return Interrupted(
            f"Interrupted before {report.flag} was armed anywhere.",
            "Nothing was armed: what a router promised arms nothing, and lapses by itself.",
            again,
            _trouble(report),
        )
    last = [state for state in report.path if state is not State.REFUSED][-1]
    rules = sorted({o.rule for o in report.obstacles}) or [_NO_OBSTACLE.get(last, "ARM_PROMISE")]
    hosts = sorted({o.host for o in report.obstacles} or set(report.trouble))
    return Refused(
        rules[0],
        f"{report.flag} is NOT armed: refused by {', '.join(rules)}: {', '.join(hosts)}.",
        "Nothing was changed: no router was armed, and no sender was told.",
        _way_out(rules, report, inventory, again),
        tuple(o.line for o in report.obstacles) or _trouble(report),
    )


def _way_out(rules: list[str], report: Report, inventory: str, again: str) -> str:
    if "ARM_ALREADY" in rules:
        return f"deploytool flags disarm {report.flag} -i {inventory}, then: {again}"
    if {"ARM_LOCKED", "ARM_ROLLOUT", "ARM_HELD"} & {*rules}:
        return (
            f"Let that rollout end, or end it: deploytool resume -i {inventory}, or "
            f"deploytool rollback -i {inventory}; then: {again}"
        )
    if "ARM_PARITY" in rules:
        return f"deploytool status -i {inventory} says what is to be done first; then: {again}"
    if "ARM_FLAG_KNOWN" in rules:
        return f"deploytool flags status -i {inventory} names the flags of what runs; then: {again}"
    return f"Fix what the lines name, then: {again}"


def _off(report: Report, again: str) -> DeploytoolError | None:
    if report.purpose is Purpose.DISARM:
        return None
    what = f"{report.flag} was NOT armed"
    means = (
        f"It was withdrawn: all {len(report.seen)} hosts were observed off, and the senders "
        "don't use it."
    )
    if report.interrupted:
        return Interrupted(f"{what}: interrupted.", means, again, _trouble(report))
    now = f"Fix what the lines name, then: {again}"
    return Restored(f"{what}.", means, now, _trouble(report))


def _named(report: Report, inventory: str) -> DeploytoolError:
    states = set(report.flag_states.values())
    if states and states <= {"absent"}:
        return InputError(
            f"No build on any host has a runtime flag {report.flag}.",
            "Nothing was armed, and nothing was changed on any host.",
            f"deploytool flags status -i {inventory} lists the flags",
        )
    odd = {host: text for host, text in report.flag_states.items() if text not in OFF}
    lines = tuple(f"{host}: {text}" for host, text in odd.items())
    beside = tuple(item.line for host, item in sorted(report.trouble.items()) if host not in odd)
    kind: type[DeploytoolError] = Interrupted if report.interrupted else NotProven
    off = len(report.flag_states) - len(odd)
    return kind(
        f"{report.flag} is not proven off: {', '.join([*odd, *_sides(report)])}.",
        _means(report, off),
        f"deploytool flags disarm {report.flag} -i {inventory}; if it can't be reached, stop it "
        "there: a process that starts again has every flag off",
        (*lines, *beside),
    )


def _sides(report: Report) -> list[str]:
    return [] if report.in_use is False else ["the senders"]


def _means(report: Report, off: int) -> str:
    text = (
        f"{off} of {len(report.flag_states)} hosts were observed off, and reject what is flagged. "
    )
    if report.in_use is None:
        text += "What the senders do is UNKNOWN."
    elif report.in_use:
        text += "The senders still use it, or have orders open that do."
    else:
        text += "The senders don't use it."
    if report.purpose is Purpose.ARM and State.SETTLING not in report.path:
        limit = f" within {report.provisional_s:g} s" if report.provisional_s else ""
        text += f" No commit was settled: a host that was committed disarms by itself{limit}."
    return text
