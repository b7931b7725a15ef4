"""Flag steps and leases: the artifact's own commands, and what they may not meet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from deploytool.agent.requests import FlagStep, RefusedAnswer, RenewLease
from deploytool.agent.settings import Command
from deploytool.agent.verbs.arming import CERTIFICATE_AT_MOST, STEPS
from deploytool.simulation.memory.host import SentBytes

from .ground import ONE, SHA, TWO, Ground, claim

LASTING = ("prepare", "commit", "settle")
ALWAYS = ("observe", "disarm")


@dataclass
class Flags:
    """What the process does with its flags: it writes down what it was asked."""

    asked: list[tuple[tuple[str, ...], bytes]] = field(default_factory=list)
    epoch: int = 0

    def answer(self, words: tuple[str, ...], given: bytes) -> tuple[int, str, str]:
        self.asked.append((words, given))
        return 3, "{}", "router: refused (TEST): why\n"

    def armed(self) -> list[str]:
        return []


def inventory(ground: Ground) -> None:
    """Has the inventory name the commands."""
    artifact = "{current}/router"
    commands: dict[str, Any] = {
        f"flag_{step}": Command(argv=(artifact, "flag", step, "{flag}"))
        for step in (*LASTING, "disarm")
    }
    ground.change(flag_observe=Command(argv=(artifact, "flag", "show")), **commands)


@pytest.fixture
def flags(ground: Ground) -> Flags:
    """The flags of a host that was deployed and is idle."""
    inventory(ground)
    ground.deploy(ONE)
    made = Flags()
    ground.host.service.minds[ground.main].flags = made
    return made


def step(name: str, **words: Any) -> FlagStep:
    return FlagStep(**{"step": name, "flag": None if name == "observe" else "ICEBERG", **words})


@pytest.mark.parametrize("name", STEPS)
def test_a_step_is_told_to_the_artifact_and_its_answer_is_handed_on(
    ground: Ground, flags: Flags, name: str
) -> None:
    sent = b"sealed\n" if name == "prepare" else b""
    told = ground.done(step(name, size=len(sent)), sent)
    words = ("show",) if name == "observe" else (name, "ICEBERG")
    assert flags.asked == [(words, sent)]
    assert (told.said.code, told.said.answer) == (3, "{}")
    assert told.said.errors.startswith("router: refused (TEST)")


@pytest.mark.parametrize("mark", ["lock", "rollout", "held"])
@pytest.mark.parametrize("readable", [True, False])
def test_p3_a_host_that_is_being_changed_arms_nothing_and_disarms_all_the_same(
    ground: Ground, flags: Flags, mark: str, readable: bool
) -> None:
    ground.write(mark, "plan p\n") if readable else ground.spoil(mark)
    for name in LASTING:
        assert ground.refused(step(name)) == "changing"
    assert flags.asked == []
    for name in ALWAYS:
        ground.done(step(name))
    ground.remove(mark)
    for name in LASTING:
        ground.done(step(name))


def test_p3_a_locked_host_arms_nothing(ground: Ground, flags: Flags) -> None:
    token = ground.lock("plan2")
    assert ground.refused(step("commit")) == "changing"
    ground.unlock(token)
    ground.done(step("commit"))
    assert len(flags.asked) == 1


def test_off_is_safe_and_waits_for_no_change_in_progress(ground: Ground, flags: Flags) -> None:
    node = ground.host.computer.find(f"{ground.root}/state/mutex")
    assert node is not None
    node.locked = ground.host.computer.spawn(("a change",))
    for name in ALWAYS:
        ground.done(step(name))
    assert ground.refused(step("commit")) == "busy"
    assert len(flags.asked) == 2


@pytest.mark.parametrize(
    "request_", [step("arm"), *(step(name, flag=None) for name in STEPS if name != "observe")]
)
def test_what_is_no_step_is_refused(ground: Ground, request_: FlagStep) -> None:
    inventory(ground)
    assert ground.refused(request_) == "bad-request"


def test_a_certificate_is_bounded_and_whole(ground: Ground, flags: Flags) -> None:
    assert ground.refused(step("prepare", size=CERTIFICATE_AT_MOST + 1)) == "bad-request"
    assert ground.refused(step("commit", size=1), b"x") == "bad-request"
    assert ground.refused(step("prepare", size=3), b"ab") == "short-copy"
    late = SentBytes(b"abc", stalls_at=1)
    assert ground.refused(step("prepare", size=3), late) == "slow-copy"
    assert flags.asked == []
    large = b"x" * CERTIFICATE_AT_MOST
    ground.done(step("prepare", size=len(large)), large)
    assert flags.asked[0][1] == large


@pytest.mark.parametrize("name", STEPS)
def test_a_host_whose_inventory_names_no_commands_says_so(ground: Ground, name: str) -> None:
    ground.deploy(ONE)
    assert ground.refused(step(name)) == "no-flags"


@pytest.mark.parametrize("name", STEPS)
def test_a_host_without_a_release_says_so(ground: Ground, name: str) -> None:
    inventory(ground)
    assert ground.refused(step(name)) == "nothing-active"


@pytest.mark.parametrize("broken", [None, f"releases/{SHA}"])
def test_p3_a_process_is_disarmed_also_where_the_link_to_its_release_is_broken(
    ground: Ground, flags: Flags, broken: str | None
) -> None:
    current = f"{ground.root}/current"
    ground.host.computer.remove(current)
    if broken is not None:
        ground.host.computer.link(current, broken)
    ground.done(step("disarm"))
    assert flags.asked == [(("disarm", "ICEBERG"), b"")]


def test_an_artifact_that_can_t_be_executed_is_not_active(ground: Ground) -> None:
    inventory(ground)
    ground.host.place(TWO)
    artifact = ground.host.computer.find(f"{ground.root}/releases/{TWO.release}/router")
    assert artifact is not None
    artifact.mode = 0o444
    ground.host.computer.link(f"{ground.root}/current", f"releases/{TWO.release}")
    assert ground.refused(step("disarm")) == "nothing-active"


# --- lease ---------------------------------------------------------------------------------------


def test_a_lease_is_renewed_by_the_nonce_that_was_issued(ground: Ground) -> None:
    ground.deploy(ONE)
    first = ground.done(RenewLease()).said
    assert first.code == 0
    nonce = f"{ground.main.pid}-1"
    assert nonce in first.answer
    assert '"left_s": 10' in ground.done(RenewLease(nonce=nonce)).said.answer
    assert "LEASE_NONCE" in ground.done(RenewLease(nonce=nonce)).said.errors


def test_a_host_without_a_lease_says_so(ground: Ground) -> None:
    ground.change(lease=None)
    assert ground.refused(RenewLease()) == "no-lease"


def test_a_lease_is_renewed_while_a_change_is_in_progress(ground: Ground) -> None:
    ground.deploy(ONE)
    node = ground.host.computer.find(f"{ground.root}/state/mutex")
    assert node is not None
    node.locked = ground.host.computer.spawn(("a change",))
    assert ground.done(RenewLease()).said.code == 0


def test_a_command_that_can_t_be_started_has_no_exit_code(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise OSError(11, "no more processes")

    monkeypatch.setattr("deploytool.simulation.memory.commands.MemoryCommands.run", fails)
    said = ground.done(RenewLease()).said
    assert said.code is None
    assert "no more processes" in said.errors


def test_what_a_request_says_is_not_looked_at_again() -> None:
    command = Command(argv=("halt", "--by={by}", "{{x}}", "{reason}{by}"))
    said = command.filled(by="{reason}", reason="}{by}")
    assert said == ("halt", "--by={reason}", "{x}", "}{by}{reason}")
    with pytest.raises(KeyError):
        command.filled(by="me")


def test_a_refusal_says_what_is_in_the_way(ground: Ground, flags: Flags) -> None:
    ground.done(claim("plan2"))
    answer = ground.ask(step("prepare"))
    assert isinstance(answer, RefusedAnswer)
    assert f"{ground.root}/state/lock" in answer.text
    assert flags.asked == []
