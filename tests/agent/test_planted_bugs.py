"""The checks are no ornament: each bug that is planted in the real verbs is noticed by one."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pytest

from deploytool.agent import host, marks
from deploytool.agent.verbs import evidence, locking, service, staging, stopping, switching

from .invariants import crashes, damage, races, stops


@dataclass(frozen=True)
class Bug:
    """Pieces of a function's source that are replaced, and the checks that have to notice it."""

    name: str
    owner: Any
    function: str
    by: Callable[[], Iterator[str]]
    edits: Sequence[tuple[str, str]]

    def plant(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = inspect.getattr_static(self.owner, self.function)
        function = getattr(found, "__func__", found)
        source = textwrap.dedent(inspect.getsource(function))
        for right, wrong in self.edits:
            where = f"{self.function} has changed; plant this bug where its check is now"
            assert source.count(right) == 1, f"{where}: {right}"
            source = source.replace(right, wrong)
        made: dict[str, Any] = {}
        code = compile("from __future__ import annotations\n" + source, self.name, "exec")
        exec(code, function.__globals__, made)  # noqa: S102 it is our own source
        monkeypatch.setattr(self.owner, self.function, made[function.__name__])


def crash(*steps: str) -> Callable[[], Iterator[str]]:
    return lambda: chain.from_iterable(map(crashes.crash_violations, steps))


def taken_over(*steps: str) -> Callable[[], Iterator[str]]:
    return lambda: chain.from_iterable(map(races.takeover_violations, steps))


COPY, SWITCH = staging._Copy, switching

BUGS = [
    Bug(
        "a mark's bytes are not synced",
        marks,
        "put",
        crash("lock", "activate"),
        [("sink.sync()", "pass")],
    ),
    Bug(
        "a mark's name is not synced",
        marks,
        "put",
        crash("lock"),
        [("    state.sync()", "    pass")],
    ),
    Bug(
        "a mark has its name before its bytes are synced",
        marks,
        "put",
        crash("lock", "activate"),
        [
            ("sink.sync()\n", "pass\n"),
            (
                "sink.close()",
                "sink.close()\n        state.rename(draft, name)\n        state.sync_file(name)",
            ),
            ('state.rename(f"{name}.new", name)', "pass"),
        ],
    ),
    Bug(
        "a mark is written in place",
        marks,
        "put",
        crash("activate"),
        [('draft = f"{name}.new"', "draft = name"), ('state.rename(f"{name}.new", name)', "pass")],
    ),
    Bug(
        "a mark that was removed is not synced",
        host.AgentHost,
        "remove",
        crash("activate", "confirm", "unlock"),
        [("self.state.sync()", "pass")],
    ),
    Bug(
        "a draft that a killed run left is in the way",
        marks,
        "put",
        crash("lock"),
        [("state.entry(draft) is not None", "False")],
    ),
    Bug("the copy is not synced", COPY, "_receive", crash("stage"), [("sink.sync()", "pass")]),
    Bug(
        "the copy's names are not synced",
        COPY,
        "_receive_artifact",
        crash("stage"),
        [("self._upload.sync()", "pass")],
    ),
    Bug(
        "the copy's mode is not synced",
        COPY,
        "_receive_artifact",
        crash("stage"),
        [("self._upload.sync_file(name)", "pass")],
    ),
    Bug(
        "the release's name is not synced",
        COPY,
        "_place",
        crash("stage"),
        [("releases.sync()", "pass")],
    ),
    Bug(
        "the link is not synced",
        SWITCH,
        "_switch",
        crash("activate"),
        [("host.root.sync()", "pass")],
    ),
    Bug(
        "the link is removed before it is made",
        SWITCH,
        "_switch",
        crash("activate"),
        [
            (
                'host.root.rename(draft, "current")',
                'host.root.remove("current")\n        host.root.rename(draft, "current")',
            )
        ],
    ),
    Bug(
        "the dead-man is armed after the switch",
        SWITCH,
        "_switch",
        crash("activate"),
        [
            ("_arm_deadman(host, request)\n", "pass\n"),
            (
                "return service.start_again(host)",
                "x = service.start_again(host)\n    _arm_deadman(host, request)\n    return x",
            ),
        ],
    ),
    Bug(
        "verified before the dead-man goes",
        SWITCH,
        "confirm",
        crash("confirm"),
        [('if marks.is_there(host.state, "deadman"):', "if False:")],
    ),
    Bug(
        "nothing is marked with the lock",
        locking,
        "_take",
        crash("lock"),
        [("if marked is not None:", "if False:")],
    ),
    Bug(
        "the lock goes before the mark",
        locking,
        "unlock",
        crash("unlock"),
        [
            (
                'host.remove("held", "rollout", "lock")',
                'host.remove("lock")\n        host.remove("held", "rollout")',
            )
        ],
    ),
    Bug(
        "what was finished is not told",
        locking,
        "unlock",
        crash("unlock"),
        [('host.put(finished=done, previous=mark.before or "none")', "pass")],
    ),
    Bug(
        "the token is used before it is on the disk",
        locking,
        "_new_lock",
        crash("lock"),
        [("host.put(token=str(token))", "pass")],
    ),
    Bug("a token is given out again", locking, "_new_lock", crash("lock"), [("+ 1", "+ 0")]),
    Bug(
        "drafts stay",
        locking,
        "_prune",
        crash("stage"),
        [("if name.startswith(TEMPORARY):", "if False:")],
    ),
    Bug(
        "activate takes any token",
        SWITCH,
        "_begin",
        races.stale_violations,
        [("host.check_token(request.token)", "pass")],
    ),
    Bug(
        "confirm takes any token",
        SWITCH,
        "confirm",
        races.stale_violations,
        [("host.check_token(request.token)", "pass")],
    ),
    Bug(
        "unlock takes any token",
        locking,
        "unlock",
        races.stale_violations,
        [("host.check_token(request.token)", "pass")],
    ),
    Bug(
        "renew takes any token",
        locking,
        "renew",
        races.stale_violations,
        [("held = host.check_token(request.token)", "held = marks.read_lock(host.state)")],
    ),
    Bug(
        "stage takes any token",
        staging,
        "_check",
        races.stale_violations,
        [("host.check_token(request.token)", "pass")],
    ),
    Bug(
        "a copy checks the token at its beginning alone",
        COPY,
        "stage",
        taken_over("stage"),
        [("_check(self._host, request)", "pass")],
    ),
    Bug(
        "an older token is as good",
        host.AgentHost,
        "check_token",
        races.stale_violations,
        [("lock.token != token", "lock.token < token")],
    ),
    Bug(
        "the mutex is not taken",
        host._Mutex,
        "__enter__",
        taken_over("lock", "activate"),
        [("self._state.lock(self._name, self._wait_s)", "__import__('contextlib').nullcontext()")],
    ),
    Bug(
        "lock does not take the mutex",
        locking,
        "lock",
        taken_over("lock"),
        [("with host.mutex():", "if True:")],
    ),
    Bug(
        "activate does not take the mutex",
        SWITCH,
        "activate",
        taken_over("activate"),
        [("with host.mutex():", "if True:")],
    ),
    Bug(
        "confirm does not take the mutex",
        SWITCH,
        "confirm",
        taken_over("confirm"),
        [("with host.mutex():", "if True:")],
    ),
    Bug(
        "unlock does not take the mutex",
        locking,
        "unlock",
        taken_over("unlock"),
        [("with host.mutex():", "if True:")],
    ),
    Bug(
        "a copy is put in place without the mutex",
        COPY,
        "stage",
        taken_over("stage"),
        [("with self._host.mutex():", "if True:")],
    ),
    Bug(
        "a release is believed by its name",
        staging,
        "holding",
        damage.damage_violations,
        [("folder.digest(name) != release", "False")],
    ),
    Bug(
        "a release is not read from the disk",
        staging,
        "holding",
        damage.damage_violations,
        [("disk.sha != release", "False")],
    ),
    Bug(
        "a copy is not hashed as it arrives, nor read back",
        COPY,
        "_receive_artifact",
        damage.damage_violations,
        [("arrived != request.release", "False"), ("disk.sha != request.release", "False")],
    ),
    Bug(
        "a manifest is not hashed",
        COPY,
        "stage",
        damage.damage_violations,
        [("if found != request.manifest:", "if False:")],
    ),
    Bug(
        "a manifest is believed by its name",
        evidence,
        "holding",
        damage.damage_violations,
        [("manifest in (None, label)", "True")],
    ),
    Bug(
        "a switch does not restart",
        service,
        "restart",
        crash("unlock"),
        [("return host.system.supervisor.restart(limit)", 'return ""')],
    ),
    Bug(
        "a stopped host is changed by whoever does not know of it",
        host.AgentHost,
        "check_latch",
        stops.stop_violations,
        [("found is None or found.latch != latch", "False")],
    ),
    Bug(
        "a fenced host is changed",
        host.AgentHost,
        "check_latch",
        stops.stop_violations,
        [('marks.is_there(self.state, "fenced")', "False")],
    ),
    Bug(
        "a mask that a stop made is taken away",
        service,
        "unfence",
        stops.stop_violations,
        [("        supervisor.mask()", "        pass")],
    ),
    Bug(
        "a stop is not latched",
        stopping,
        "write_latch",
        stops.stop_violations,
        [('host.state.rename(draft, "halted")', "pass")],
    ),
    Bug(
        "the timer is not set",
        SWITCH,
        "_arm_deadman",
        races.expiry_violations,
        [("host.system.supervisor.set_timer(request.deadman, request.token)", "pass")],
    ),
    Bug(
        "the timer does not take the mutex",
        SWITCH,
        "expire",
        races.expiry_violations,
        [("with host.mutex(EXPIRE_WAITS_S):", "if True:")],
    ),
    Bug(
        "confirm does not look whether it expired",
        SWITCH,
        "confirm",
        races.expiry_violations,
        [('marks.is_there(host.state, "expired")', "False")],
    ),
    Bug(
        "confirm does not look at what runs",
        SWITCH,
        "confirm",
        races.expiry_violations,
        [("if not (", "if False and not (")],
    ),
    Bug(
        "the timer does not look whose it is",
        SWITCH,
        "expire",
        races.expiry_violations,
        [("not _is_over(deadman, request, host.system.machine.uptime())", "False")],
    ),
    Bug(
        "an earlier timer is as good",
        SWITCH,
        "_is_over",
        races.expiry_violations,
        [("uptime >= deadman.armed + deadman.seconds", "True")],
    ),
]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_noticed(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    bug.plant(monkeypatch)
    assert next(bug.by(), None) is not None, f"{bug.name}: nothing noticed it"
