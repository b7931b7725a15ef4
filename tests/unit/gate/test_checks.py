"""Each check refuses just what it is there for, at the right line; mended, it passes."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable

import pytest

from deploytool.gate.model import Check
from deploytool.gate.rules import verdict
from tests.unit.registry.registries import flag, registry, reserved, runtime

from .repository import FAST, HIDDEN, OLD, GateRepository, only, refused

REGISTRY = "app/flags.yaml"
FLEET = "inventories/fleet.yaml"
Break = Callable[[GateRepository], tuple[str, str, int]]
"""Breaks one rule; gives the rule's id, the file and the line that have to be named."""


def test_the_repository_that_keeps_every_rule_passes(repository: GateRepository) -> None:
    report = repository.run()
    assert refused(report) == {}
    assert [result.check for result in report.results] == list(Check)
    assert all(result.evidence for result in report.results)
    assert verdict(report, "again") is None


# --- GATE_FLAGS -----------------------------------------------------------------------------------


def meaning_changes(repository: GateRepository) -> tuple[str, str, int]:
    """What FAST means is rewritten; the build and its rehearsal are anew, the bit is not."""
    repository.write(REGISTRY, registry(HIDDEN, FAST.replace("Does fast", "Does otherwise"), OLD))
    return "FLAG_SAME_SEMANTICS", REGISTRY, repository.line(REGISTRY, "name: FAST")


def reserved_goes(repository: GateRepository) -> tuple[str, str, int]:
    repository.write(REGISTRY, registry(HIDDEN, FAST))
    return "FLAG_RESERVED_NO_DELETE", REGISTRY, 1


# --- GATE_RETIRED_CODE ----------------------------------------------------------------------------


def retired_code_is_back(repository: GateRepository) -> tuple[str, str, int]:
    repository.change("app/router/terms.py", '"""Hides."""', "return PowerPeg")
    return "GATE_RETIRED_CODE", "app/router/terms.py", 2


def retired_text_in_a_constant(repository: GateRepository) -> tuple[str, str, int]:
    text = 'def hidden():\n    """Hides."""\n\n    return "as power peg did"\n'
    repository.write("app/router/terms.py", text)
    return "GATE_RETIRED_CODE", "app/router/terms.py", 4


def nothing_reaches_it(repository: GateRepository) -> tuple[str, str, int]:
    repository.write("app/router/spare.py", '"""Nobody asks for this."""\n')
    repository.change("app/builds/1.yaml", "fast]", "fast, spare]")
    return "GATE_RETIRED_CODE", "app/router/spare.py", 1


def only_a_type_checker_sees_it(repository: GateRepository) -> tuple[str, str, int]:
    repository.write("app/router/spare.py", '"""Nobody asks for this."""\n')
    repository.change("app/builds/1.yaml", "fast]", "fast, spare]")
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from router import spare\n"
    repository.change("app/router/cli.py", "from importlib", f"{text}from importlib")
    repository.write("app/unused.yaml", excuses("spare", "router/cli.py"))
    return "GATE_RETIRED_CODE", "app/router/spare.py", 1


def handler_is_not_there_for_certain(repository: GateRepository) -> tuple[str, str, int]:
    repository.write(
        "app/router/fast.py", "import sys\n\n\nclass Fast:\n    pass\n\n\nif sys: del Fast\n"
    )
    return "GATE_RETIRED_CODE", REGISTRY, 1


# --- GATE_DEAD_CODE -------------------------------------------------------------------------------


def excuses(name: str, file: str, why: str = "It is kept.", days: int = 30) -> str:
    until = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=days)
    return (
        f"schema: 1\nunused:\n  - name: {name}\n    files: [{file}]\n    why: {why}\n"
        f'    until: "{until}"\n'
    )


def nothing_uses_it(repository: GateRepository) -> tuple[str, str, int]:
    repository.change("app/router/terms.py", "def", "\n\ndef spare():  # noqa\n    pass\n\n\ndef")
    return "GATE_DEAD_CODE", "app/router/terms.py", 3


def the_excuse_has_ended(repository: GateRepository) -> tuple[str, str, int]:
    repository.change("app/router/terms.py", "def", "def spare():\n    pass\n\n\ndef")
    repository.write("app/unused.yaml", excuses("spare", "router/terms.py", days=-1))
    return "GATE_DEAD_CODE", "app/unused.yaml", 3


def the_excuse_never_ends(repository: GateRepository) -> tuple[str, str, int]:
    repository.change("app/router/terms.py", "def", "def spare():\n    pass\n\n\ndef")
    repository.write("app/unused.yaml", excuses("spare", "router/terms.py", days=9999))
    return "GATE_DEAD_CODE", "app/unused.yaml", 3


def the_excuse_excuses_nothing(repository: GateRepository) -> tuple[str, str, int]:
    repository.write("app/unused.yaml", excuses("spare", "router/terms.py"))
    return "GATE_DEAD_CODE", "app/unused.yaml", 3


def the_excuse_has_no_reason(repository: GateRepository) -> tuple[str, str, int]:
    repository.change("app/router/terms.py", "def", "def spare():\n    pass\n\n\ndef")
    repository.write("app/unused.yaml", excuses("spare", "router/terms.py", why='" "'))
    return "GATE_DEAD_CODE", "app/unused.yaml", 5


# --- GATE_REPRODUCIBLE ----------------------------------------------------------------------------

WAYS = {
    "folder": "str(HERE)",
    "zone": "os.environ.get('TZ', '')",
    "hash seed": "str(hash('x'))",
    "umask": "oct(os.umask(0o22))",
    "file times": "str((HERE / 'flags.yaml').stat().st_mtime)",
    "file modes": "oct((HERE / 'flags.yaml').stat().st_mode)",
    "chance": "os.urandom(4).hex()",
    "home": "str(Path.home())",
}


def depends_on(what: str) -> Break:
    def broken(repository: GateRepository) -> tuple[str, str, int]:
        old = '"strategies": recipe["strategies"],'
        repository.change("app/build.py", old, f'"strategies": [{WAYS[what]}],')
        return "GATE_REPRODUCIBLE", "app/build.py", 1

    return broken


# --- GATE_INVENTORY -------------------------------------------------------------------------------


def inventory_lacks(text: str, block: str) -> Break:
    def broken(repository: GateRepository) -> tuple[str, str, int]:
        repository.change(FLEET, text, "")
        return "GATE_INVENTORY", FLEET, repository.line(FLEET, block) if block else 1

    return broken


def a_key_is_not_pinned(repository: GateRepository) -> tuple[str, str, int]:
    repository.change("inventories/known_hosts", "192.0.2.5 ", "192.0.2.55 ")
    return "GATE_INVENTORY", FLEET, repository.line(FLEET, "router5:")


def two_names_for_one_machine(repository: GateRepository) -> tuple[str, str, int]:
    pinned = repository.path("inventories/known_hosts").read_text().splitlines()
    pinned[6] = f"192.0.2.7 {pinned[2].partition(' ')[2]}"
    repository.write("inventories/known_hosts", "\n".join(pinned) + "\n")
    return "GATE_INVENTORY", FLEET, repository.line(FLEET, "router7:")


def a_throwaway_fleet_is_kept(repository: GateRepository) -> tuple[str, str, int]:
    repository.change(FLEET, "expect: 8", "throwaway: true\nexpect: 8")
    return "GATE_INVENTORY", FLEET, 2


# --- GATE_REHEARSED -------------------------------------------------------------------------------


def rehearsal(change: Callable[[GateRepository], object]) -> Break:
    """Whatever is wrong with the records, it is said at what the inventory wants."""

    def broken(repository: GateRepository) -> tuple[str, str, int]:
        for path in repository.path("records").iterdir():
            path.unlink()
        change(repository)
        return "GATE_REHEARSED", FLEET, repository.line(FLEET, "rehearsal:")

    return broken


def seven_of_eight(repository: GateRepository) -> object:
    shape = repository.record().shape
    return repository.rehearse(shape=shape.model_copy(update={"waves": (1, 3, 3)}))


def edited(repository: GateRepository) -> object:
    path = repository.rehearse(ended=int(time.time()) - 10**8, began=int(time.time()) - 10**8)
    text = path.read_text()
    fresh = f'"ended":{int(time.time()) - 10}'
    return path.write_text(text.replace(f'"ended":{int(time.time()) - 10**8}', fresh))


def one_failed(repository: GateRepository) -> object:
    repository.rehearse()
    played = repository.record().scenarios
    bad = played[0].model_copy(update={"passed": False, "held": 4})
    return repository.rehearse(scenarios=(bad,), ended=int(time.time()))


BREAKS: dict[str, Break] = {
    "a meaning changes": meaning_changes,
    "a reserved flag goes": reserved_goes,
    "retired code is back": retired_code_is_back,
    "a retired name in a text": retired_text_in_a_constant,
    "a module that nothing reaches": nothing_reaches_it,
    "a module that only a type checker sees": only_a_type_checker_sees_it,
    "a handler that goes again": handler_is_not_there_for_certain,
    "code that nothing uses": nothing_uses_it,
    "an excuse that ended": the_excuse_has_ended,
    "an excuse without an end": the_excuse_never_ends,
    "an excuse for nothing": the_excuse_excuses_nothing,
    "an excuse without a reason": the_excuse_has_no_reason,
    **{f"a build that knows its {what}": depends_on(what) for what in WAYS},
    "no deadline to connect": inventory_lacks("  connect_timeout_s: 5\n", "ssh:"),
    "no deadline for a command": inventory_lacks("  command_timeout_s: 30\n", "ssh:"),
    "no deadline to be ready": inventory_lacks("  ready_timeout_s: 20\n", "service:"),
    "no deadline for the senders": inventory_lacks("  timeout_s: 5\n", "gateway:"),
    "no membership": inventory_lacks(
        "membership:\n  command: [gate, members]\n  timeout_s: 5\n", ""
    ),
    "a key that is not pinned": a_key_is_not_pinned,
    "two names for one machine": two_names_for_one_machine,
    "a throwaway fleet in the repository": a_throwaway_fleet_is_kept,
    "no record": rehearsal(lambda _: None),
    "seven of eight rehearsed": rehearsal(seven_of_eight),
    "another digest rehearsed": rehearsal(lambda g: g.rehearse(release="f" * 64)),
    "rehearsed too long ago": rehearsal(
        lambda g: g.rehearse(ended=int(time.time()) - 15 * 86_400, began=0)
    ),
    "rehearsed in the future": rehearsal(lambda g: g.rehearse(ended=int(time.time()) + 3600)),
    "a scenario that was left out": rehearsal(
        lambda g: g.rehearse(scenarios=g.record().scenarios[:2])
    ),
    "a scenario that failed since": rehearsal(one_failed),
    "a record that was edited": rehearsal(edited),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BREAKS)
def test_one_broken_rule_is_the_one_that_is_named(name: str, repository: GateRepository) -> None:
    rule, path, line = BREAKS[name](repository)
    repository.commit()
    release = None
    if rule == "GATE_REPRODUCIBLE":
        release = repository.release()  # what is to be released was built once, and rehearsed
    elif rule != "GATE_REHEARSED":
        repository.rehearse()
    report = repository.run(release=release)
    found = only(report)
    assert (found.rule, found.path, found.line) == (rule, path, line), found
    assert found.text
    assert found.remedy
    mend(repository)
    (check,) = (result.check for result in report.results if not result.passed)
    assert refused(repository.run(check)) == {}


def mend(repository: GateRepository) -> None:
    """Puts everything back as it was in the beginning, and rehearses again."""
    first = repository.git("rev-parse", "base")
    repository.git("checkout", "-q", first, "--", ".")
    added = repository.git("diff", "--name-only", "--diff-filter=A", first)
    for name in added.splitlines():
        repository.path(name).unlink()
    for path in repository.path("records").iterdir():
        path.unlink()
    repository.rehearse()
    repository.commit()


def test_a_bit_that_went_two_commits_ago_is_not_given_away(repository: GateRepository) -> None:
    """It was dropped without a trace in one commit; another flag takes it in a later one."""
    older = flag("OLDER", 7, handler="router.terms:older")
    slow = runtime("SLOW", 7, handler="router.fast:Fast")
    repository.git("checkout", "-q", "main")
    for text in (registry(HIDDEN, FAST, OLD, older), registry(HIDDEN, FAST, OLD)):
        repository.write(REGISTRY, text)
        repository.commit()
    repository.git("checkout", "-q", "-B", "pr")
    repository.write(REGISTRY, registry(HIDDEN, FAST, OLD, slow))
    repository.commit()
    repository.rehearse()
    found = only(repository.run())
    assert (found.rule, found.path) == ("FLAG_BIT_NO_REUSE", REGISTRY)
    assert found.line == repository.line(REGISTRY, "name: SLOW")
    fine = slow.replace("bit: 7", "bit: 8")
    repository.write(REGISTRY, registry(HIDDEN, FAST, OLD, fine, reserved("OLDER", 7)))
    repository.commit()
    repository.rehearse()
    assert refused(repository.run()) == {}
