"""What the agent does and refuses, over the port in memory and behind a real ``sshd``.

What the simulated fleets prove is worth as much as this suite: both sides answer it alike.
"""

from __future__ import annotations

import re
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from deploytool.agent.requests import (
    Answer,
    Confirm,
    Expire,
    Locked,
    MarkHold,
    Probe,
    Retire,
    Unlocked,
)
from deploytool.errors import HostFault
from deploytool.fleet.retire import stop_for_good
from deploytool.parity.model import Evidence
from deploytool.release.model import Manifest

from .sides import (
    BOOT,
    SHA,
    Real,
    Side,
    activate,
    asked,
    back,
    claim,
    lock,
    look,
    mark,
    refused,
    shape,
    stage,
    staging,
    switch,
    take,
)

GOLDEN = Path(__file__).with_name("golden")
OTHER = "b" * 64


def golden(name: str) -> list[str]:
    return (GOLDEN / name).read_text().splitlines()


def test_p2_a_bare_host_shows_all_there_is(side: Side) -> None:
    assert shape(side, look(side).shown.to_json()) == golden("bare.txt")


def test_p1_a_running_host_shows_what_runs(side: Side) -> None:
    token = lock(side)
    manifest, content = side.release("1.0")
    stage(side, (manifest, content), token)
    request = switch(token, manifest.sha256, show=Probe(read_disk=False))
    seen = activate(side, request)
    assert asked(side, mark(token, seen)) == Answer()
    evidence = look(
        side, release=(manifest.sha256, manifest.digest()), requires=("no-such-program",)
    )
    assert shape(side, evidence.shown.to_json()) == golden("running.txt")
    assert evidence.shown.disk is not None
    assert evidence.release == evidence.shown.disk.sha == manifest.sha256
    assert {run.sha for run in evidence.running} == {manifest.sha256}
    assert evidence.status is not None
    assert evidence.status["release"] == manifest.sha256
    assert evidence.status["pid"] == evidence.main_pid == seen.main_pid
    assert evidence.manifest == manifest.canonical()
    assert shape(side, seen.shown.to_json()) == golden("activated.txt")


# --- lock and token ------------------------------------------------------------------------------


def test_p7_a_lock_says_who_has_it_and_the_same_plan_has_it_once(side: Side) -> None:
    assert lock(side) == 1
    assert lock(side) == 1, "asking again with the same plan is no second lock"
    assert refused(side, claim("plan2", "you@there")) == "locked"
    with pytest.raises(HostFault) as caught:
        asked(side, claim("plan2"))
    said = r"me@here holds the lock for deploy, plan plan1, since \d+"
    assert re.fullmatch(said, caught.value.text)


def test_p7_a_token_only_grows(side: Side) -> None:
    first = lock(side)
    assert asked(side, back(first)) == Unlocked()
    assert lock(side, "plan2") == first + 1
    assert refused(side, back(first)) == "stale-token"


def test_p7_the_lock_comes_with_what_a_plan_was_bound_to(side: Side) -> None:
    locked = asked(side, claim(show=Probe()))
    assert isinstance(locked, Locked)
    assert locked.evidence is not None
    assert locked.evidence.current == "none"
    held = locked.evidence.marks.lock
    assert held is not None, "it was seen under the lock"
    assert (held.token, held.plan) == (locked.token, "plan1")
    assert asked(side, claim()) == Locked(token=locked.token), "and is not asked for otherwise"


def test_p7_whoever_lost_the_lock_changes_nothing(side: Side) -> None:
    old = lock(side)
    manifest, content = side.release("1.0")
    stage(side, (manifest, content), old)
    theirs = claim("plan2", "you@there")
    assert refused(side, theirs.but(take_over=old + 1)) == "stale-token"
    assert take(side, theirs.but(take_over=old)) == old + 1
    before = {path: side.read(path) for path in side.paths()}
    fresh = side.release("2.0")
    payload = fresh[0].canonical() + fresh[1]
    anyone = Confirm(token=old, release=manifest.sha256, pid=2, start=1, boot=BOOT)
    assert refused(side, staging(fresh[0], old), payload) == "stale-token"
    assert refused(side, switch(old, manifest.sha256)) == "stale-token"
    assert refused(side, anyone) == "stale-token"
    assert refused(side, back(old)) == "stale-token"
    assert {path: side.read(path) for path in side.paths()} == before
    assert side.read("current") is None


def test_p7_a_takeover_of_a_lock_that_is_ours_or_gone_is_no_accident(side: Side) -> None:
    token = lock(side)
    assert take(side, claim(take_over=99)) == token
    asked(side, back(token))
    assert take(side, claim(take_over=token)) == token + 1


def test_nothing_is_changed_without_a_lock(side: Side) -> None:
    manifest, content = side.release("1.0")
    payload = manifest.canonical() + content
    assert refused(side, staging(manifest, 1), payload) == "stale-token"
    assert refused(side, switch(1, None)) == "stale-token"
    assert refused(side, back(1)) == "stale-token"


# --- stage ---------------------------------------------------------------------------------------


def test_p1_what_was_staged_is_whole_and_read_only(side: Side) -> None:
    token = lock(side)
    manifest, content = side.release("1.0")
    assert stage(side, (manifest, content), token).sent
    folder = f"releases/{manifest.sha256}"
    assert side.read(f"{folder}/router") == content
    assert side.read(f"{folder}/release.json") == manifest.canonical()
    assert side.read("current") is None, "staging switches nothing"
    assert not stage(side, (manifest, content), token).sent, "it is there"


def test_the_same_bytes_may_be_labelled_anew(side: Side) -> None:
    token = lock(side)
    manifest, content = side.release("1.0")
    stage(side, (manifest, content), token)
    label = manifest.model_copy(update={"revision": "another"})
    stage(side, (label, content), token)
    assert side.read(f"releases/{manifest.sha256}/release.json") == label.canonical()


def test_a_label_that_arrives_altered_replaces_nothing(side: Side) -> None:
    token = lock(side)
    manifest, content = side.release("1.0")
    stage(side, (manifest, content), token)
    label = manifest.model_copy(update={"revision": "another"})
    altered = label.canonical().replace(b"another", b"anothxr") + content
    assert refused(side, staging(label, token), altered) == "bad-copy"
    assert side.read(f"releases/{manifest.sha256}/release.json") == manifest.canonical()


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        ("cut short", "short-copy"),
        ("altered", "bad-copy"),
        ("altered manifest", "bad-copy"),
        ("nothing at all", "short-copy"),
    ],
)
def test_p1_a_copy_that_is_not_the_release_leaves_nothing(side: Side, harm: str, code: str) -> None:
    token = lock(side)
    manifest, content = side.release("1.0")
    payload = manifest.canonical() + content
    sent = {
        "cut short": payload[:-1],
        "altered": payload[:-2] + b"!" + payload[-1:],
        "altered manifest": payload.replace(b'"name"', b'"nbme"', 1),
        "nothing at all": b"",
    }[harm]
    before = side.paths()
    # Over a session that goes on, bytes that don't come are told from late ones by the deadline.
    request = staging(manifest, token, seconds=2)
    codes = {code, "slow-copy"} if code == "short-copy" else {code}
    assert refused(side, request, sent) in codes
    assert side.paths() == before


def test_p1_an_artifact_that_names_another_version_is_refused(side: Side) -> None:
    token = lock(side)
    manifest, content = side.release("1.0")
    lying = manifest.model_copy(update={"version_line": "router 9.9"})
    before = side.paths()
    payload = lying.canonical() + content
    assert refused(side, staging(lying, token), payload) == "bad-version"
    assert side.paths() == before


def test_a_damaged_copy_is_replaced_by_a_good_one(side: Side) -> None:
    token = lock(side)
    manifest, content = side.release("1.0")
    stage(side, (manifest, content), token)
    side.overwrite(f"releases/{manifest.sha256}/router", content[:-1] + b"!")
    held = (manifest.sha256, manifest.digest())
    assert look(side, release=held).release_state == "damaged"
    stage(side, (manifest, content), token)
    assert look(side, release=held).release_state == "intact"
    assert look(side, release=(manifest.sha256, SHA)).release_state == "unlabelled"
    assert look(side, release=(SHA, SHA)).release_state == "absent"


# --- activate and confirm ------------------------------------------------------------------------


def test_p1_only_what_is_staged_can_be_activated(side: Side) -> None:
    token = lock(side)
    assert refused(side, switch(token, SHA)) == "not-staged"
    assert side.read("current") is None


def test_p1_what_was_altered_between_staging_and_switching_is_seen(side: Side) -> None:
    token = lock(side)
    manifest, content = side.release("1.0")
    stage(side, (manifest, content), token)
    altered = content + b"\n"
    side.overwrite(f"releases/{manifest.sha256}/router", altered)
    seen = activate(side, switch(token, manifest.sha256, show=Probe(read_disk=False)))
    assert {run.sha for run in seen.running} == {sha256(altered).hexdigest()}


def test_p1_what_is_put_in_the_place_of_what_runs_is_told_apart_from_it(side: Side) -> None:
    token = lock(side)
    manifest, content = side.release("1.0")
    stage(side, (manifest, content), token)
    activate(side, switch(token, manifest.sha256))
    side.replace(f"releases/{manifest.sha256}/router", content + b"\n")
    seen = look(side)
    assert seen.shown.disk is not None
    assert seen.shown.disk.sha == sha256(content + b"\n").hexdigest()
    assert {run.sha for run in seen.running} == {manifest.sha256}


def test_p3_a_process_speaks_for_itself_where_the_link_was_taken_away(side: Side) -> None:
    token = lock(side)
    manifest, content = side.release("1.0")
    stage(side, (manifest, content), token)
    activate(side, switch(token, manifest.sha256))
    side.remove("current")
    seen = look(side)
    assert seen.release is None
    assert seen.status is not None
    assert (seen.status["release"], seen.status["pid"]) == (manifest.sha256, seen.main_pid)


@pytest.mark.sshd
def test_p3_a_process_that_its_supervisor_lost_sight_of_is_asked(real: Real) -> None:
    token = lock(real)
    manifest, content = real.release("1.0")
    stage(real, (manifest, content), token)
    main = activate(real, switch(token, manifest.sha256)).main_pid
    real.remove("state/pid")
    seen = look(real)
    assert (seen.main_pid, {run.pid for run in seen.running}) == (0, {main})
    assert seen.status is not None
    assert seen.status["pid"] == main


def test_p1_a_restart_is_a_new_process_and_takes_the_mark_away(side: Side) -> None:
    token = lock(side)
    one, two = side.release("1.0"), side.release("2.0")
    for release in (one, two):
        stage(side, release, token)
    seen = activate(side, switch(token, one[0].sha256))
    first = mark(token, seen)
    asked(side, first)
    again = activate(side, switch(token, two[0].sha256))
    assert mark(token, again) != first
    assert {run.sha for run in again.running} == {two[0].sha256}
    assert again.marks.verified is None
    assert refused(side, first) == "moved-on"


@pytest.mark.parametrize("wrong", ["pid", "start", "boot", "release"])
def test_p1_only_the_very_process_that_was_seen_is_confirmed(side: Side, wrong: str) -> None:
    token = lock(side)
    manifest, content = side.release("1.0")
    stage(side, (manifest, content), token)
    seen = activate(side, switch(token, manifest.sha256))
    right = mark(token, seen)
    others: dict[str, Any] = {"pid": 2, "start": 1, "boot": BOOT, "release": SHA}
    assert refused(side, right.but(**{wrong: others[wrong]})) == "moved-on"
    assert side.read("state/verified") is None
    side.kill_main()
    assert refused(side, right) == "moved-on"


def test_p1_a_service_that_died_is_seen_to_be_dead(side: Side) -> None:
    token = lock(side)
    manifest, content = side.release("1.0")
    stage(side, (manifest, content), token)
    activate(side, switch(token, manifest.sha256))
    side.kill_main()
    evidence = look(side)
    assert (evidence.main_pid, evidence.running, evidence.status) == (0, (), None)
    assert evidence.release == manifest.sha256


def test_activating_nothing_leaves_nothing_running(side: Side) -> None:
    token = lock(side)
    manifest, content = side.release("1.0")
    stage(side, (manifest, content), token)
    activate(side, switch(token, manifest.sha256))
    evidence = activate(side, switch(token, None))
    assert (evidence.current, evidence.main_pid, evidence.running) == ("none", 0, ())
    assert side.read("current") is None


def test_a_retired_host_has_no_mark_of_a_dead_man(side: Side) -> None:
    token = lock(side)
    side.replace("state/expired", b"token 1\nsince 1\n")
    asked(side, Retire(token=token))
    assert side.read("state/expired") is None, "else it is never let in again"


def test_a_retired_host_runs_nothing_and_names_nothing(side: Side) -> None:
    token = lock(side)
    manifest, content = side.release("1.0")
    stage(side, (manifest, content), token)
    activate(side, switch(token, manifest.sha256))
    assert refused(side, Retire(token=token + 1)) == "stale-token"
    assert asked(side, Retire(token=token)) == Answer()
    evidence = look(side)
    assert (evidence.current, evidence.main_pid, evidence.running) == ("none", 0, ())


def test_a_retirement_that_broke_off_is_done_by_whoever_asks_again(side: Side) -> None:
    token = lock(side)
    stage(side, side.release("1.0"), token)
    activate(side, switch(token, side.release("1.0")[0].sha256))
    asked(side, back(token))
    theirs = claim("retire", "you@there", purpose="retire", release=None)
    asked(side, theirs)
    stop_for_good(side.host, "me@here", 30)
    evidence = look(side)
    assert (evidence.current, evidence.main_pid, evidence.lock) == ("none", 0, None)


def test_whoever_asks_about_one_release_is_spared_the_other(side: Side) -> None:
    token = lock(side)
    manifest, content = side.release("1.0")
    stage(side, (manifest, content), token)
    activate(side, switch(token, manifest.sha256))
    other = look(side, release=(SHA, None), only_target=True)
    assert (other.shown.disk, other.status) == (None, None)
    assert {run.sha for run in other.running} == {None}
    same = look(side, release=(manifest.sha256, None), only_target=True)
    assert same.shown.disk is not None
    assert same.shown.disk.sha == manifest.sha256
    assert {run.sha for run in same.running} == {manifest.sha256}


# --- what is left for whoever finds it -----------------------------------------------------------


def told(side: Side) -> tuple[str, str | None, str | None, str]:
    """What the mark of a rollout says."""
    mark = look(side).rollout
    assert mark is not None
    return mark.plan, mark.target, mark.before, mark.phase


def phase(side: Side) -> tuple[str | None, str | None, str] | None:
    mark = look(side).rollout
    return (mark.before, mark.target, mark.phase) if mark else None


def test_p7_a_host_knows_how_far_a_rollout_has_come(side: Side) -> None:
    assert phase(side) is None
    one, two = side.release("1.0"), side.release("2.0")
    for before, release in ((None, one), (one[0].sha256, two)):
        sha = release[0].sha256
        token = take(side, claim(release=sha))
        assert phase(side) == (before, sha, "locked")
        stage(side, release, token)
        assert phase(side) == (before, sha, "locked")
        seen = activate(side, switch(token, sha))
        assert phase(side) == (before, sha, "activating")
        asked(side, mark(token, seen))
        assert phase(side) == (before, sha, "confirmed")
        asked(side, back(token))
        assert phase(side) is None
        assert look(side).marks.previous == before


def test_p7_a_takeover_says_what_a_host_had_whose_mark_is_gone(side: Side) -> None:
    """It was finished there: whoever comes next must not take it for an untouched host."""
    token = lock(side)
    asked(side, back(token))
    take(side, claim("plan2", take_over=token, before=OTHER, knows_before=True))
    assert told(side) == ("plan2", SHA, OTHER, "confirmed")


def test_p7_a_takeover_does_not_say_it_of_a_host_that_has_it_still(side: Side) -> None:
    token = lock(side)
    asked(side, back(token))
    take(side, claim("plan2", take_over=token, before=None, knows_before=True))
    assert told(side) == ("plan2", SHA, None, "locked")


def test_p7_who_only_locked_a_host_hides_nothing_that_was_finished_there(side: Side) -> None:
    token = lock(side)
    manifest, content = side.release("1.0")
    stage(side, (manifest, content), token)
    activate(side, switch(token, manifest.sha256))
    asked(side, back(token))
    finished = look(side).finished
    assert finished is not None
    assert finished.plan == "plan1"
    asked(side, back(lock(side, "plan2")))
    seen = look(side)
    assert seen.finished == finished
    assert seen.rollout is None


def test_what_all_hosts_were_proven_on_is_known_to_one_that_had_it_already(side: Side) -> None:
    asked(side, back(lock(side), release=SHA))
    finished = look(side).finished
    assert finished is not None
    assert (finished.plan, finished.target) == ("plan1", SHA)
    asked(side, back(lock(side, "plan2"), release=OTHER))
    assert look(side).finished == finished


def test_p7_a_host_that_is_let_in_again_still_knows_what_was_finished_there(side: Side) -> None:
    token = lock(side)
    manifest, content = side.release("1.0")
    stage(side, (manifest, content), token)
    seen = activate(side, switch(token, manifest.sha256))
    asked(side, back(token))
    finished = look(side).finished
    token = take(side, claim("plan2", purpose="start", release=manifest.sha256))
    asked(side, mark(token, seen))
    asked(side, back(token))
    assert look(side).finished == finished


def test_p7_a_takeover_names_the_rollout_that_it_found_where_nothing_was_begun(side: Side) -> None:
    token = lock(side, "plan2")
    theirs = claim("plan3", release=OTHER, before=OTHER, knows_before=True, rollout="plan1")
    take(side, theirs.but(take_over=token))
    assert told(side) == ("plan1", OTHER, OTHER, "confirmed")
    take(side, theirs.but(plan="plan4", take_over=token + 1, before=SHA))
    assert told(side) == ("plan1", OTHER, OTHER, "confirmed"), (
        "what was begun is known to nobody better than to the host"
    )


def test_p7_what_an_interrupted_rollout_wrote_down_survives_a_takeover(side: Side) -> None:
    token = lock(side)
    manifest, content = side.release("1.0")
    stage(side, (manifest, content), token)
    activate(side, switch(token, manifest.sha256))
    take(side, claim("plan2", take_over=token, release=manifest.sha256))
    assert phase(side) == (None, SHA, "activating")


def test_p7_a_lock_without_its_mark_gets_it_when_it_is_asked_for_again(side: Side) -> None:
    lock(side)
    side.remove("state/rollout")
    lock(side)
    assert phase(side) == (None, SHA, "locked")


def test_a_fleet_that_is_held_says_so_until_it_is_given_back(side: Side) -> None:
    token = lock(side)
    said = MarkHold(token=token, holder="me@here", plan="plan1", verdict="MIXED", next="resume")
    assert refused(side, said.but(token=token + 1)) == "stale-token"
    assert asked(side, said) == Answer()
    hold = look(side).hold
    assert hold is not None
    assert (hold.verdict, hold.holder, hold.plan, hold.next) == (
        "MIXED",
        "me@here",
        "plan1",
        "resume",
    )
    asked(side, back(token))
    assert look(side).hold is None


def test_old_releases_go_but_never_the_running_one_or_the_one_before(side: Side) -> None:
    releases = [side.release(f"{number}.0") for number in range(1, 6)]
    token = lock(side)
    activate(side, switch(_staged(side, releases[0], token), releases[0][0].sha256))
    asked(side, back(token))
    token = lock(side, "plan2")
    for release in releases[1:]:
        _staged(side, release, token)
        time.sleep(0.02)  # their age is what a real disk tells them apart by
    activate(side, switch(token, releases[1][0].sha256))
    unlocked = asked(side, back(token))
    assert isinstance(unlocked, Unlocked)
    assert set(unlocked.pruned) == {releases[2][0].sha256}
    left = {path.split("/")[1] for path in side.paths() if path.startswith("releases/")}
    assert left == {r[0].sha256 for r in (*releases[:2], *releases[3:])}


def _staged(side: Side, release: tuple[Manifest, bytes], token: int) -> int:
    stage(side, release, token)
    return token


# --- dead-man -------------------------------------------------------------------------------------


def armed(side: Side, seconds: int = 600) -> tuple[int, Evidence]:
    """A host that was activated and waits for a confirmation, for as long as a test takes."""
    token = lock(side)
    manifest, content = side.release("1.0")
    stage(side, (manifest, content), token)
    seen = activate(side, switch(token, manifest.sha256, deadman=seconds))
    assert seen.main_pid
    assert seen.unconfirmed
    return token, seen


def test_p7_a_host_that_nobody_confirms_stops_serving(side: Side) -> None:
    token, seen = armed(side, 5)
    asked(side, Expire(token=token + 1))
    assert look(side).main_pid == seen.main_pid, "another's timer"
    side.pass_time(6)
    asked(side, Expire(token=token))
    evidence = look(side)
    assert (evidence.main_pid, evidence.running) == (0, ())
    assert evidence.release == seen.release, "it goes back to nothing by itself"
    assert refused(side, mark(token, seen)) in {"moved-on", "expired"}


def test_p7_a_host_that_was_confirmed_goes_on_serving(side: Side) -> None:
    token, seen = armed(side)
    asked(side, mark(token, seen))
    asked(side, Expire(token=token))
    evidence = look(side)
    assert evidence.main_pid == seen.main_pid
    assert not evidence.unconfirmed


# What no deployer's code can send is tried on the agent itself: tests/agent/.


def test_a_host_that_was_not_prepared_says_so(side: Side) -> None:
    side.remove("state/mutex")
    assert refused(side, claim()) == "not-prepared"
