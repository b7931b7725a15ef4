"""The one table of rules: what each one finds, and what that counts for. Pure.

``deploytool status --json`` names findings by the ids of this table; docs/proof.md shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from deploytool.core.finding import Finding, Level
from deploytool.parity import beside_rules, fleet_rules, member_rules, process_rules, rules
from deploytool.parity.model import Evidence, Expected, HostVerdict


class ProofUse(Enum):
    """What hosts are judged for."""

    CHANGE = "before a host is changed"
    PROVE = "status, verify, arm, the end of a deployment"
    START = "start: a stopped host whose process runs"
    HELD = "start: a stopped host on which nothing runs"
    WATCH = "watch: lease renewals and drift"


class Weight(Enum):
    """What a rule's findings come to for one purpose."""

    FULL = "counts"
    """As they are. In a watch: no renewal, and where something was seen to be wrong, drift."""
    DOUBT = "no proof"
    """As UNKNOWN: no proof and no renewal, but not drift."""
    SEEN = "if seen"
    """Only what was seen to be wrong counts; what is not known is told."""
    NOTE = "told"
    """They are told, and decide nothing."""
    NONE = "-"
    """The rule is not asked: there it can show nothing."""


_COLUMN = {purpose: column for column, purpose in enumerate(ProofUse)}
HostRule = Callable[[Expected, Evidence], Iterator[Finding]]
FleetRule = Callable[[Mapping[str, Evidence]], Iterator[tuple[str, Finding]]]
InventoryRule = Callable[[frozenset[str], Mapping[str, Evidence]], Iterator[tuple[str, Finding]]]


@dataclass(frozen=True)
class Rule:
    """One rule.

    ``check`` judges a host by itself, ``compare`` hosts by each other, ``relate`` hosts by the
    names that the inventory lists.
    """

    id: str
    about: str
    weights: tuple[Weight, Weight, Weight, Weight, Weight]
    """In the order of ``ProofUse``."""
    check: HostRule | None = None
    compare: FleetRule | None = None
    relate: InventoryRule | None = None

    def weight(self, purpose: ProofUse) -> Weight:
        """What it comes to for this purpose."""
        return self.weights[_COLUMN[purpose]]


_F, _D, _S, _T, _N = Weight.FULL, Weight.DOUBT, Weight.SEEN, Weight.NOTE, Weight.NONE
_ALWAYS = (_F, _F, _F, _F, _F)
_LIVE = (_N, _F, _F, _N, _F)
"""What only a running service can show."""
_RUNNING = (_N, _F, _F, _F, _F)

RULES: tuple[Rule, ...] = (
    Rule("agent", "the agent is the one that this inventory makes", _ALWAYS, rules.agent_rule),
    Rule("current", "`current` leads to the release", _RUNNING, rules.link_rule),
    Rule("disk", "artifact and manifest on the disk are the release's", _RUNNING, rules.disk_rule),
    Rule("main", "the main process runs a release", _LIVE, rules.main_rule),
    Rule("runs", "processes of the service run this release alone", _RUNNING, rules.runs_rule),
    Rule("acts", "only the service acts as it", _RUNNING, beside_rules.acting_rule),
    Rule("strays", "the same, before a switch", (_F, _N, _N, _N, _N), beside_rules.strays_rule),
    Rule(
        "account",
        "only the service runs as its account",
        (_F, _F, _F, _F, _T),
        beside_rules.account_rule,
    ),
    Rule("sight", "root could inspect every process", _ALWAYS, beside_rules.sight_rule),
    Rule("ports", "only the service holds its ports", _LIVE, beside_rules.ports_rule),
    Rule("status", "the process says the same of itself", _LIVE, rules.status_rule),
    Rule("halt", "a stopped host is HALTED", _RUNNING, rules.halt_rule),
    Rule("verified", "a deployment verified this very process", _LIVE, rules.verified_rule),
    Rule("unit", "the unit is ours, whole and alone", (_F, _F, _F, _N, _F), rules.unit_rule),
    Rule("files", "configuration files can be read", _ALWAYS, rules.config_rule),
    Rule(
        "config",
        "the process runs the configuration that the files hold",
        (_N, _F, _S, _N, _F),
        process_rules.started_rule,
    ),
    Rule("running", "arguments, environment, mapped files", _LIVE, process_rules.running_rule),
    Rule("preload", "what every program loads is known", _ALWAYS, process_rules.preload_rule),
    Rule(
        "starters",
        "only the unit starts the service, after a reboot too",
        (_F, _F, _F, _F, _N),
        beside_rules.starters_rule,
    ),
    Rule(
        "manager",
        "systemd loads no other code into what it starts next",
        (_F, _F, _F, _F, _N),
        process_rules.manager_rule,
    ),
    Rule(
        "redirects",
        "no packet rule redirects its ports",
        (_N, _F, _F, _F, _N),
        process_rules.redirects_rule,
    ),
    Rule("state", "a stop could leave its latch", (_F, _F, _F, _F, _D), process_rules.state_rule),
    Rule(
        "marks", "marks of earlier work can be read", (_N, _F, _T, _T, _F), process_rules.marks_rule
    ),
    Rule("rights", "only root may write what is proven", _ALWAYS, rules.rights_rule),
    Rule(
        "signers",
        "who may sign is who the inventory names",
        (_F, _F, _F, _N, _F),
        rules.signers_rule,
    ),
    Rule(
        "members",
        "each host keeps a list of this fleet's members",
        (_F, _F, _F, _F, _T),
        member_rules.list_rule,
    ),
    Rule("clock", "the clock agrees with this machine's", (_F, _F, _F, _N, _F), rules.clock_rule),
    Rule(
        "beside",
        "readers, neighbours, other commands of the agent, and what ended meanwhile",
        (_T, _T, _T, _T, _T),
        beside_rules.bystanders_rule,
    ),
    Rule("identity", "each host is a machine of its own", _ALWAYS, compare=fleet_rules.identities),
    Rule(
        "member", "each host is the member of its name", _ALWAYS, compare=member_rules.memberships
    ),
    Rule(
        "members-same",
        "the hosts keep the newest list of members",
        (_F, _F, _F, _F, _T),
        compare=member_rules.lists,
    ),
    Rule(
        "members-listed",
        "the inventory lists the members, and no others",
        (_F, _F, _F, _F, _T),
        relate=member_rules.listed,
    ),
    Rule(
        "files-same", "the same configuration on all", _ALWAYS, compare=fleet_rules.configurations
    ),
    Rule(
        "drop-ins-same",
        "the same drop-ins for every service",
        _ALWAYS,
        compare=fleet_rules.drop_ins,
    ),
    Rule("preload-same", "the same preloaded libraries", _ALWAYS, compare=fleet_rules.preloads),
    Rule(
        "halts",
        "each host that a stop was for shows it, or its lawful end",
        (_F, _F, _T, _T, _D),
        compare=fleet_rules.halts,
    ),
    Rule("armed-same", "the same flags are armed", _RUNNING, compare=fleet_rules.armed_flags),
    Rule("interpreter-same", "the same interpreters", _RUNNING, compare=fleet_rules.interpreters),
    Rule(
        "libraries-same",
        "the same library folders of the interpreters",
        (_N, _F, _F, _N, _N),
        compare=fleet_rules.libraries,
    ),
    Rule(
        "mapped-same", "the same libraries in the processes", _RUNNING, compare=fleet_rules.mapped
    ),
    Rule(
        "environment-same",
        "the same variables that load code",
        _RUNNING,
        compare=fleet_rules.environments,
    ),
)


def judge_host(
    host: str, expected: Expected, evidence: Evidence, purpose: ProofUse = ProofUse.PROVE
) -> HostVerdict:
    """The verdict on one host that answered, by itself."""
    declared = expected.declared if expected.unit_sha is not None else frozenset()
    judged = HostVerdict(host, (), evidence.release, evidence, declared=declared)
    for rule in RULES:
        weight = rule.weight(purpose)
        if rule.check is not None and weight is not Weight.NONE:
            judged = _weighed(judged, rule, weight, rule.check(expected, evidence))
    return judged


def judge_fleet(
    verdicts: Iterable[HostVerdict], purpose: ProofUse = ProofUse.PROVE
) -> tuple[HostVerdict, ...]:
    """Adds what only shows when hosts are compared with each other."""
    judged = {verdict.host: verdict for verdict in verdicts}
    evidence = {v.host: v.evidence for v in judged.values() if v.evidence is not None}
    declared = frozenset(name for v in judged.values() for name in v.declared)
    for rule in RULES:
        weight = rule.weight(purpose)
        found: Iterator[tuple[str, Finding]] = iter(())
        if rule.compare is not None:
            found = rule.compare(evidence)
        elif rule.relate is not None:
            found = rule.relate(declared, evidence)
        for host, finding in found if weight is not Weight.NONE else ():
            judged[host] = _weighed(judged[host], rule, weight, (finding,))
    return tuple(judged.values())


def _weighed(
    verdict: HostVerdict, rule: Rule, weight: Weight, found: Iterable[Finding]
) -> HostVerdict:
    counts, notes = list(verdict.findings), list(verdict.notes)
    for item in found:
        finding = replace(item, rule=rule.id, host=verdict.host)
        unknown = finding.level is Level.UNKNOWN
        if (
            finding.level is Level.NOTE
            or weight is Weight.NOTE
            or (weight is Weight.SEEN and unknown)
        ):
            notes.append(replace(finding, level=Level.NOTE))
        else:
            doubtful = weight is Weight.DOUBT
            counts.append(replace(finding, level=Level.UNKNOWN) if doubtful else finding)
    return replace(verdict, findings=tuple(counts), notes=tuple(notes))
