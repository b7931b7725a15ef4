"""What only shows when hosts are held against each other: identity and sameness. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from deploytool.parity.model import Evidence, Finding, HostVerdict
from deploytool.parity.rules import short, unseen, wrong

_DIGEST = re.compile(r"[0-9a-f]{64}")


def _odd_ones(values: Mapping[str, str], what: str) -> Iterator[tuple[str, Finding]]:
    """Hosts whose value is not the one that most have; all of them where there is no majority."""
    counts = Counter(values.values()).most_common()
    if len(counts) < 2:
        return
    majority = counts[0][0] if counts[0][1] > counts[1][1] else None
    for host, value in values.items():
        if majority is None:
            others = sorted(name for name, other in values.items() if other != value)
            yield host, wrong(what, f"the same as on {', '.join(others[:3])}", short(value))
        elif value != majority:
            yield host, wrong(what, f"{short(majority)} as on most hosts", short(value))


def _identities(evidence: Mapping[str, Evidence]) -> Iterator[tuple[str, Finding]]:
    names: dict[tuple[str, str], list[str]] = {}
    for host, seen in evidence.items():
        names.setdefault(seen.identity, []).append(host)
        if not seen.machine:
            yield host, unseen("identity", "a machine-id", "the host has none")
    for same in names.values():
        for host in same if len(same) > 1 else ():
            others = ", ".join(name for name in same if name != host)
            yield host, wrong("identity", "a machine of its own", f"the same machine as {others}")


def static_sameness(evidence: Mapping[str, Evidence]) -> Iterator[tuple[str, Finding]]:
    """What must be the same on all hosts, or distinct, whatever runs there."""
    yield from _identities(evidence)
    for number in range(max((len(seen.shown.configs) for seen in evidence.values()), default=0)):
        values = {
            h: s.shown.configs[number].sha or "unreadable"
            for h, s in evidence.items()
            if number < len(s.shown.configs)
        }
        yield from _odd_ones(values, f"configuration file {number + 1}")
    drop_ins = {
        h: " ".join(sorted(f"{f.path}={f.sha}" for f in s.shown.unit_files if _for_all(f.path)))
        or "none"
        for h, s in evidence.items()
    }
    yield from _odd_ones(drop_ins, "drop-ins for every service")


def _for_all(path: str) -> bool:
    """Whether a drop-in is one for every service."""
    return "/service.d/" in path


def sameness(evidence: Mapping[str, Evidence]) -> Iterator[tuple[str, Finding]]:
    """What must be the same on all hosts, or distinct, when one release runs on them."""
    yield from static_sameness(evidence)
    yield from _odd_ones({h: _armed(s) for h, s in evidence.items() if s.status}, "armed flags")
    interpreters = {
        h: s.shown.interpreters[0].sha or "unreadable"
        for h, s in evidence.items()
        if s.shown.interpreters
    }
    yield from _odd_ones(interpreters, "interpreter")


def _armed(evidence: Evidence) -> str:
    """Which flags a process says are armed: one that restarted while others were armed has none."""
    names = (evidence.status or {}).get("armed")
    if isinstance(names, (list, tuple)):
        return ", ".join(sorted(map(str, names))) or "none"
    return "none" if names is None else str(names)


FleetRule = Callable[[Mapping[str, Evidence]], Iterator[tuple[str, Finding]]]


def judge_fleet(
    verdicts: Iterable[HostVerdict], rule: FleetRule = sameness
) -> tuple[HostVerdict, ...]:
    """Adds what only shows when hosts are held against each other: identity and sameness."""
    ordered = tuple(verdicts)
    evidence = {v.host: v.evidence for v in ordered if v.evidence is not None}
    extra: dict[str, list[Finding]] = {v.host: [] for v in ordered}
    for host, finding in rule(evidence):
        extra[host].append(finding)
    return tuple(replace(v, findings=(*v.findings, *extra[v.host])) for v in ordered)


def most_common_release(evidence: Iterable[Evidence]) -> str | None:
    """The release that most hosts have as ``current``; the smallest digest of several such.

    What a link names that is no digest is no release, however many hosts have it.
    """
    named = (seen.release for seen in evidence)
    counts = Counter(name for name in named if name is not None and _DIGEST.fullmatch(name))
    if not counts:
        return None
    most = max(counts.values())
    return min(release for release, count in counts.items() if count == most)
