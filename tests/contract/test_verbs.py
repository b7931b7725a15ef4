"""Every verb and every refusal of the host helper, in memory and behind a real ``sshd``.

What the simulated fleets prove is worth as much as this suite: both sides answer it alike.
"""

from __future__ import annotations

import re
import time
from hashlib import sha256
from pathlib import Path

import pytest

from deploytool.fleet import helper as rendered_helper
from deploytool.fleet.protocol import FORMAT
from deploytool.fleet.retire import stop_for_good
from deploytool.parity.model import Evidence
from deploytool.parity.round import read
from deploytool.release.model import Manifest
from deploytool.simulation.helper import Helper

from .sides import (
    BOOT,
    SHA,
    Arguments,
    Real,
    Side,
    ask,
    asked,
    back,
    claim,
    lock,
    mark,
    refusal,
    refused,
    shape,
    stage,
    staging,
    switch,
)

GOLDEN = Path(__file__).with_name("golden")
OTHER = "b" * 64


def golden(name: str) -> list[str]:
    return (GOLDEN / name).read_text().splitlines()


def test_both_helpers_know_the_same_verbs() -> None:
    script = Path(rendered_helper.__file__).with_name("onhost").joinpath("90_serve.sh").read_text()
    body = script[script.rindex("case $VERB in") :]
    real = set(re.findall(r"^    ([a-z_]+)\)", body, re.MULTILINE))
    # let_in is root's own, asked on the host itself: no deployer that is simulated may.
    assert real == {"probe", "let_in"} | {n[5:] for n in dir(Helper) if n.startswith("verb_")}


def test_p2_a_bare_host_shows_all_there_is(side: Side) -> None:
    assert shape(side, ask(side, "probe").lines) == golden("probe_bare.txt")


def test_p1_a_running_host_shows_what_runs(side: Side) -> None:
    token = lock(side)
    manifest, content = side.release("1.0")
    stage(side, (manifest, content), token)
    activated = asked(side, "activate", {**switch(token, manifest.sha256), "disk": "skip"})
    seen = read(activated)
    assert asked(side, "confirm", mark(token, seen)).lines == ()
    probed = ask(
        side, "probe", release=manifest.sha256, manifest=manifest.digest(), requires="no-such"
    )
    assert shape(side, probed.lines) == golden("probe_running.txt")
    evidence = read(probed)
    assert evidence.release == evidence.disk_sha == manifest.sha256
    assert {run.sha for run in evidence.runs} == {manifest.sha256}
    assert evidence.status is not None
    assert evidence.status["release"] == manifest.sha256
    assert evidence.status["pid"] == evidence.main_pid == seen.main_pid
    assert evidence.manifest == manifest.canonical()
    assert shape(side, activated.lines) == golden("probe_activated.txt")


# --- lock and token ------------------------------------------------------------------------------


def test_p7_a_lock_says_who_has_it_and_the_same_plan_has_it_once(side: Side) -> None:
    assert lock(side) == 1
    assert lock(side) == 1, "asking again with the same plan is no second lock"
    assert refused(side, "lock", claim("plan2", "you@there")) == "locked"
    asking = "".join(f"{key} {value}\n" for key, value in claim("plan2").items())
    raw = f"{FORMAT} ab lock\n{asking}.\n".encode()
    end = side.raw(raw).decode().splitlines()[-1]
    pattern = (
        r"deploytool ab end refused locked me@here holds the lock for deploy, plan plan1, since \d+"
    )
    assert re.fullmatch(pattern, end)


def test_p7_a_token_only_grows(side: Side) -> None:
    first = lock(side)
    assert asked(side, "unlock", back(first)).lines == ()
    assert lock(side, "plan2") == first + 1
    assert refused(side, "unlock", back(first)) == "stale-token"


def test_p7_the_lock_comes_with_what_a_plan_was_bound_to(side: Side) -> None:
    reply = asked(side, "lock", claim())
    assert shape(side, reply.lines) == ["token <n>", "current none"]


def test_p7_whoever_lost_the_lock_changes_nothing(side: Side) -> None:
    old = lock(side)
    manifest, content = side.release("1.0")
    stage(side, (manifest, content), old)
    theirs = claim("plan2", "you@there")
    assert refused(side, "takeover", {**theirs, "token": old + 1}) == "stale-token"
    assert asked(side, "takeover", {**theirs, "token": old}).one("token") == str(old + 1)
    before = {path: side.read(path) for path in side.paths()}
    fresh = side.release("2.0")
    payload = fresh[0].canonical() + fresh[1]
    anyone: Arguments = {
        "token": old,
        "release": manifest.sha256,
        "pid": 1,
        "start": 1,
        "boot": BOOT,
    }
    assert refused(side, "stage", staging(fresh[0], old), payload) == "stale-token"
    assert refused(side, "activate", switch(old, manifest.sha256)) == "stale-token"
    assert refused(side, "confirm", anyone) == "stale-token"
    assert refused(side, "unlock", back(old)) == "stale-token"
    assert {path: side.read(path) for path in side.paths()} == before
    assert side.read("current") is None


def test_p7_a_takeover_of_a_lock_that_is_ours_or_gone_is_no_accident(side: Side) -> None:
    token = lock(side)
    assert asked(side, "takeover", {**claim(), "token": 99}).one("token") == str(token)
    asked(side, "unlock", back(token))
    assert asked(side, "takeover", {**claim(), "token": token}).one("token") == str(token + 1)


def test_nothing_is_changed_without_a_lock(side: Side) -> None:
    manifest, content = side.release("1.0")
    payload = manifest.canonical() + content
    assert refused(side, "stage", staging(manifest, 1), payload) == "stale-token"
    assert refused(side, "activate", switch(1, "none")) == "stale-token"
    assert refused(side, "unlock", back(1)) == "stale-token"


# --- stage ---------------------------------------------------------------------------------------


def test_p1_what_was_staged_is_whole_and_read_only(side: Side) -> None:
    token = lock(side)
    manifest, content = side.release("1.0")
    assert shape(side, stage(side, (manifest, content), token).lines)[0] in {
        "staged direct",
        "staged cached",
    }
    folder = f"releases/{manifest.sha256}"
    assert side.read(f"{folder}/router") == content
    assert side.read(f"{folder}/release.json") == manifest.canonical()
    assert side.read("current") is None, "staging switches nothing"
    assert stage(side, (manifest, content), token).lines == (("staged", "intact"),)


def test_the_same_bytes_may_be_labelled_anew(side: Side) -> None:
    token = lock(side)
    manifest, content = side.release("1.0")
    stage(side, (manifest, content), token)
    label = manifest.model_copy(update={"revision": "another"})
    assert stage(side, (label, content), token).lines == (("staged", "unlabelled"),)
    assert side.read(f"releases/{manifest.sha256}/release.json") == label.canonical()


def test_a_label_that_arrives_altered_replaces_nothing(side: Side) -> None:
    token = lock(side)
    manifest, content = side.release("1.0")
    stage(side, (manifest, content), token)
    label = manifest.model_copy(update={"revision": "another"})
    altered = label.canonical().replace(b"another", b"anothxr") + content
    assert refused(side, "stage", staging(label, token), altered) == "bad-copy"
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
    arguments = {**staging(manifest, token), "seconds": 2}
    codes = {code, "slow-copy"} if code == "short-copy" else {code}
    assert refused(side, "stage", arguments, sent) in codes
    assert side.paths() == before


def test_p1_an_artifact_that_names_another_version_is_refused(side: Side) -> None:
    token = lock(side)
    manifest, content = side.release("1.0")
    lying = manifest.model_copy(update={"version_line": "router 9.9"})
    before = side.paths()
    payload = lying.canonical() + content
    assert refused(side, "stage", staging(lying, token), payload) == "bad-version"
    assert side.paths() == before


def test_a_damaged_copy_is_replaced_by_a_good_one(side: Side) -> None:
    token = lock(side)
    manifest, content = side.release("1.0")
    stage(side, (manifest, content), token)
    side.overwrite(f"releases/{manifest.sha256}/router", content[:-1] + b"!")
    held: Arguments = {"release": manifest.sha256, "manifest": manifest.digest()}
    assert asked(side, "probe", held).one("holds") == f"{manifest.sha256} damaged"
    stage(side, (manifest, content), token)
    assert asked(side, "probe", held).one("holds") == f"{manifest.sha256} intact"
    assert (
        asked(side, "probe", {**held, "manifest": SHA}).one("holds")
        == f"{manifest.sha256} unlabelled"
    )
    assert asked(side, "probe", {**held, "release": SHA}).one("holds") == f"{SHA} absent"


# --- activate and confirm ------------------------------------------------------------------------


def test_p1_only_what_is_staged_can_be_activated(side: Side) -> None:
    token = lock(side)
    assert refused(side, "activate", switch(token, SHA)) == "not-staged"
    assert side.read("current") is None


def test_p1_what_was_altered_between_staging_and_switching_is_seen(side: Side) -> None:
    token = lock(side)
    manifest, content = side.release("1.0")
    stage(side, (manifest, content), token)
    altered = content + b"\n"
    side.overwrite(f"releases/{manifest.sha256}/router", altered)
    sent = {**switch(token, manifest.sha256), "disk": "skip"}
    seen = read(asked(side, "activate", sent))
    assert {run.sha for run in seen.runs} == {sha256(altered).hexdigest()}


def test_p1_what_is_put_in_the_place_of_what_runs_is_told_apart_from_it(side: Side) -> None:
    token = lock(side)
    manifest, content = side.release("1.0")
    stage(side, (manifest, content), token)
    asked(side, "activate", switch(token, manifest.sha256))
    side.replace(f"releases/{manifest.sha256}/router", content + b"\n")
    seen = read(ask(side, "probe"))
    assert seen.disk_sha == sha256(content + b"\n").hexdigest()
    assert {run.sha for run in seen.runs} == {manifest.sha256}


def test_p3_a_process_speaks_for_itself_where_the_link_was_taken_away(side: Side) -> None:
    token = lock(side)
    manifest, content = side.release("1.0")
    stage(side, (manifest, content), token)
    asked(side, "activate", switch(token, manifest.sha256))
    side.remove("current")
    seen = read(ask(side, "probe"))
    assert seen.release is None
    assert seen.status is not None
    assert (seen.status["release"], seen.status["pid"]) == (manifest.sha256, seen.main_pid)


@pytest.mark.sshd
def test_p3_a_process_that_its_supervisor_lost_sight_of_is_asked(real: Real) -> None:
    token = lock(real)
    manifest, content = real.release("1.0")
    stage(real, (manifest, content), token)
    main = read(asked(real, "activate", switch(token, manifest.sha256))).main_pid
    real.remove("state/pid")
    seen = read(ask(real, "probe"))
    assert (seen.main_pid, {run.pid for run in seen.runs}) == (0, {main})
    assert seen.status is not None
    assert seen.status["pid"] == main


def test_p1_a_restart_is_a_new_process_and_takes_the_mark_away(side: Side) -> None:
    token = lock(side)
    one, two = side.release("1.0"), side.release("2.0")
    for release in (one, two):
        stage(side, release, token)
    seen = read(asked(side, "activate", switch(token, one[0].sha256)))
    first = mark(token, seen)
    asked(side, "confirm", first)
    again = read(asked(side, "activate", switch(token, two[0].sha256)))
    assert mark(token, again) != first
    assert {run.sha for run in again.runs} == {two[0].sha256}
    assert again.verified is None
    assert refused(side, "confirm", first) == "moved-on"


@pytest.mark.parametrize("wrong", ["pid", "start", "boot", "release"])
def test_p1_only_the_very_process_that_was_seen_is_confirmed(side: Side, wrong: str) -> None:
    token = lock(side)
    manifest, content = side.release("1.0")
    stage(side, (manifest, content), token)
    seen = read(asked(side, "activate", switch(token, manifest.sha256)))
    right = mark(token, seen)
    others: Arguments = {"pid": 1, "start": 1, "boot": BOOT, "release": SHA}
    assert refused(side, "confirm", {**right, wrong: others[wrong]}) == "moved-on"
    assert side.read("state/verified") is None
    side.kill_main()
    assert refused(side, "confirm", right) == "moved-on"


def test_p1_a_service_that_died_is_seen_to_be_dead(side: Side) -> None:
    token = lock(side)
    manifest, content = side.release("1.0")
    stage(side, (manifest, content), token)
    asked(side, "activate", switch(token, manifest.sha256))
    side.kill_main()
    evidence = read(ask(side, "probe"))
    assert (evidence.main_pid, evidence.runs, evidence.status) == (0, (), None)
    assert evidence.release == manifest.sha256


def test_activating_nothing_leaves_nothing_running(side: Side) -> None:
    token = lock(side)
    manifest, content = side.release("1.0")
    stage(side, (manifest, content), token)
    asked(side, "activate", switch(token, manifest.sha256))
    evidence = read(asked(side, "activate", switch(token, "none")))
    assert (evidence.current, evidence.main_pid, evidence.runs) == ("none", 0, ())
    assert side.read("current") is None


def test_a_retired_host_has_no_mark_of_a_dead_man(side: Side) -> None:
    token = lock(side)
    side.replace("state/expired", b"token 1\nsince 1\n")
    asked(side, "retire", {"token": token})
    assert side.read("state/expired") is None, "else it is never let in again"


def test_a_retired_host_runs_nothing_and_names_nothing(side: Side) -> None:
    token = lock(side)
    manifest, content = side.release("1.0")
    stage(side, (manifest, content), token)
    asked(side, "activate", switch(token, manifest.sha256))
    assert refused(side, "retire", {"token": token + 1}) == "stale-token"
    assert asked(side, "retire", {"token": token}).lines == ()
    evidence = read(ask(side, "probe"))
    assert (evidence.current, evidence.main_pid, evidence.runs) == ("none", 0, ())


def test_a_retirement_that_broke_off_is_done_by_whoever_asks_again(side: Side) -> None:
    token = lock(side)
    stage(side, side.release("1.0"), token)
    asked(side, "activate", switch(token, side.release("1.0")[0].sha256))
    asked(side, "unlock", back(token))
    theirs: Arguments = {**claim("retire", "you@there"), "purpose": "retire", "release": "none"}
    asked(side, "lock", theirs)
    stop_for_good(side.host, "me@here", 30)
    evidence = read(ask(side, "probe"))
    assert (evidence.current, evidence.main_pid, evidence.lock) == ("none", 0, None)


def test_whoever_asks_about_one_release_is_spared_the_other(side: Side) -> None:
    token = lock(side)
    manifest, content = side.release("1.0")
    stage(side, (manifest, content), token)
    asked(side, "activate", switch(token, manifest.sha256))
    other = read(ask(side, "probe", release=SHA, ask="target"))
    assert (other.disk_sha, other.status) == (None, None)
    assert {run.sha for run in other.runs} == {"unread"}
    same = read(ask(side, "probe", release=manifest.sha256, ask="target"))
    assert same.disk_sha == manifest.sha256
    assert {run.sha for run in same.runs} == {manifest.sha256}


# --- what is left for whoever finds it -----------------------------------------------------------


def phase(side: Side) -> tuple[str | None, str | None, str] | None:
    mark = read(ask(side, "probe")).rollout
    return (mark.before, mark.target, mark.phase) if mark else None


def test_p7_a_host_knows_how_far_a_rollout_has_come(side: Side) -> None:
    assert phase(side) is None
    one, two = side.release("1.0"), side.release("2.0")
    for before, release in ((None, one), (one[0].sha256, two)):
        sha = release[0].sha256
        token = int(asked(side, "lock", {**claim(), "release": sha}).one("token") or "")
        assert phase(side) == (before, sha, "locked")
        stage(side, release, token)
        assert phase(side) == (before, sha, "locked")
        seen = read(asked(side, "activate", switch(token, sha)))
        assert phase(side) == (before, sha, "activating")
        asked(side, "confirm", mark(token, seen))
        assert phase(side) == (before, sha, "confirmed")
        asked(side, "unlock", back(token))
        assert phase(side) is None
        assert read(ask(side, "probe")).previous == before


def test_p7_a_takeover_says_what_a_host_had_whose_mark_is_gone(side: Side) -> None:
    """It was finished there: whoever comes next must not take it for an untouched host."""
    token = lock(side)
    asked(side, "unlock", back(token))
    asked(side, "takeover", {**claim("plan2"), "token": token, "before": OTHER})
    told = (ask(side, "probe").one("rollout") or "").split()
    assert told[:8] == ["plan", "plan2", "target", SHA, "before", OTHER, "phase", "confirmed"]


def test_p7_a_takeover_does_not_say_it_of_a_host_that_has_it_still(side: Side) -> None:
    token = lock(side)
    asked(side, "unlock", back(token))
    asked(side, "takeover", {**claim("plan2"), "token": token, "before": "none"})
    told = (ask(side, "probe").one("rollout") or "").split()
    assert told[4:8] == ["before", "none", "phase", "locked"]


def test_p7_who_only_locked_a_host_hides_nothing_that_was_finished_there(side: Side) -> None:
    token = lock(side)
    manifest, content = side.release("1.0")
    stage(side, (manifest, content), token)
    asked(side, "activate", switch(token, manifest.sha256))
    asked(side, "unlock", back(token))
    finished = ask(side, "probe").one("finished")
    assert (finished or "").split()[:2] == ["plan", "plan1"]
    asked(side, "unlock", back(lock(side, "plan2")))
    told = ask(side, "probe")
    assert told.one("finished") == finished
    assert told.one("rollout") is None


def test_what_all_hosts_were_proven_on_is_known_to_one_that_had_it_already(side: Side) -> None:
    asked(side, "unlock", {**back(lock(side)), "release": SHA})
    finished = (ask(side, "probe").one("finished") or "").split()
    assert finished[:4] == ["plan", "plan1", "target", SHA]
    asked(side, "unlock", {**back(lock(side, "plan2")), "release": OTHER})
    assert (ask(side, "probe").one("finished") or "").split()[1] == "plan1"


def test_p7_a_host_that_is_let_in_again_still_knows_what_was_finished_there(side: Side) -> None:
    token = lock(side)
    manifest, content = side.release("1.0")
    stage(side, (manifest, content), token)
    seen = read(asked(side, "activate", switch(token, manifest.sha256)))
    asked(side, "unlock", back(token))
    finished = ask(side, "probe").one("finished")
    again: Arguments = {**claim("plan2"), "purpose": "start", "release": manifest.sha256}
    token = int(asked(side, "lock", again).one("token") or "")
    asked(side, "confirm", mark(token, seen))
    asked(side, "unlock", back(token))
    assert ask(side, "probe").one("finished") == finished


def test_p7_a_takeover_names_the_rollout_that_it_found_where_nothing_was_begun(side: Side) -> None:
    token = lock(side, "plan2")
    theirs: Arguments = {**claim("plan3"), "release": OTHER, "before": OTHER, "rollout": "plan1"}
    asked(side, "takeover", {**theirs, "token": token})
    told = (ask(side, "probe").one("rollout") or "").split()
    assert told[:8] == ["plan", "plan1", "target", OTHER, "before", OTHER, "phase", "confirmed"]
    asked(side, "takeover", {**theirs, "plan": "plan4", "token": token + 1, "before": SHA})
    again = (ask(side, "probe").one("rollout") or "").split()
    assert again[:8] == told[:8], "what was begun is known to nobody better than to the host"


def test_p7_what_an_interrupted_rollout_wrote_down_survives_a_takeover(side: Side) -> None:
    token = lock(side)
    manifest, content = side.release("1.0")
    stage(side, (manifest, content), token)
    asked(side, "activate", switch(token, manifest.sha256))
    asked(side, "takeover", {**claim("plan2"), "token": token, "release": manifest.sha256})
    assert phase(side) == (None, SHA, "activating")


def test_p7_a_lock_without_its_mark_gets_it_when_it_is_asked_for_again(side: Side) -> None:
    lock(side)
    side.remove("state/rollout")
    lock(side)
    assert phase(side) == (None, SHA, "locked")


def test_a_fleet_that_is_held_says_so_until_it_is_given_back(side: Side) -> None:
    token = lock(side)
    who: Arguments = {"token": token, "holder": "me@here", "plan": "plan1"}
    said: Arguments = {**who, "verdict": "MIXED", "next": "resume"}
    assert refused(side, "hold", {**said, "token": token + 1}) == "stale-token"
    assert asked(side, "hold", said).lines == ()
    hold = read(ask(side, "probe")).hold
    assert hold is not None
    assert (hold.verdict, hold.holder, hold.plan, hold.next) == (
        "MIXED",
        "me@here",
        "plan1",
        "resume",
    )
    asked(side, "unlock", back(token))
    assert read(ask(side, "probe")).hold is None


def test_old_releases_go_but_never_the_running_one_or_the_one_before(side: Side) -> None:
    releases = [side.release(f"{number}.0") for number in range(1, 6)]
    token = lock(side)
    asked(side, "activate", switch(_staged(side, releases[0], token), releases[0][0].sha256))
    asked(side, "unlock", back(token))
    token = lock(side, "plan2")
    for release in releases[1:]:
        _staged(side, release, token)
        time.sleep(0.02)  # their age is what a real disk tells them apart by
    asked(side, "activate", switch(token, releases[1][0].sha256))
    gone = asked(side, "unlock", back(token)).all("pruned")
    assert set(gone) == {releases[2][0].sha256}
    left = {path.split("/")[1] for path in side.paths() if path.startswith("releases/")}
    assert left == {r[0].sha256 for r in (*releases[:2], *releases[3:])}


def _staged(side: Side, release: tuple[Manifest, bytes], token: int) -> int:
    stage(side, release, token)
    return token


# --- dead-man -------------------------------------------------------------------------------------


def armed(side: Side) -> tuple[int, Evidence]:
    """A host that was activated and waits for a confirmation, for as long as a test takes."""
    token = lock(side)
    manifest, content = side.release("1.0")
    stage(side, (manifest, content), token)
    sent = {**switch(token, manifest.sha256), "seconds": 600}
    seen = read(asked(side, "activate", sent))
    assert seen.main_pid
    assert seen.unconfirmed
    return token, seen


def test_p7_a_host_that_nobody_confirms_stops_serving(side: Side) -> None:
    token, seen = armed(side)
    asked(side, "expire", {"token": token + 1})
    assert read(ask(side, "probe")).main_pid == seen.main_pid, "another's timer"
    asked(side, "expire", {"token": token})
    evidence = read(ask(side, "probe"))
    assert (evidence.main_pid, evidence.runs) == (0, ())
    assert evidence.release == seen.release, "it goes back to nothing by itself"
    assert refused(side, "confirm", mark(token, seen)) in {"moved-on", "expired"}


def test_p7_a_host_that_was_confirmed_goes_on_serving(side: Side) -> None:
    token, seen = armed(side)
    asked(side, "confirm", mark(token, seen))
    asked(side, "expire", {"token": token})
    evidence = read(ask(side, "probe"))
    assert evidence.main_pid == seen.main_pid
    assert not evidence.unconfirmed


# --- requests that no deployer sends -------------------------------------------------------------

NEEDS = {
    "lock": ("holder", "purpose", "plan", "release"),
    "takeover": ("holder", "purpose", "plan", "token", "release"),
    "unlock": ("token", "keep"),
    "stage": ("release", "size", "manifest", "manifest_size", "seconds", "token"),
    "activate": ("release", "seconds", "token"),
    "hold": ("verdict", "next", "holder", "plan", "token"),
    "expire": ("token",),
    "retire": ("token",),
    "confirm": ("release", "pid", "start", "boot", "token"),
}
VALUES = {key: "1" for keys in NEEDS.values() for key in keys} | {"release": SHA, "manifest": SHA}


@pytest.mark.parametrize(("verb", "key"), [(v, k) for v, keys in NEEDS.items() for k in keys])
def test_a_request_that_lacks_something_is_refused(side: Side, verb: str, key: str) -> None:
    lock(side, "1")
    arguments = {k: VALUES[k] for k in NEEDS[verb] if k != key}
    assert refused(side, verb, arguments) == "bad-request"


HOSTILE = ["", "../..", "a b", "a;b", "$(id)", "`id`", "'", '"', "a\\b", "é", "*", "-n x", "a\tb"]


@pytest.mark.parametrize("value", HOSTILE)
def test_no_value_breaks_out_of_a_request(side: Side, value: str) -> None:
    before = side.paths()
    for key in ("holder", "release", "token", "requires"):
        for verb in ("lock", "probe"):
            head = (
                f"{FORMAT} ab {verb}\npurpose deploy\nplan p\nrelease {SHA}\n"
                + "holder me\n" * (key != "holder")
            )
            said = side.raw(f"{head}{key} {value}\n.\n".encode()).decode()
            last = said.splitlines()[-1]
            assert last.startswith("deploytool ab end refused bad-request"), (key, value, last)
    assert side.paths() == before


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\n",
        b"GET / HTTP/1.0\n\n",
        b"deploytool/2 ab probe\n.\n",
        b"deploytool/1 zz probe\n.\n",
        b"deploytool/1  probe\n.\n",
        b"deploytool/1 ab probe",
    ],
)
def test_another_language_is_not_answered(side: Side, sent: bytes) -> None:
    assert side.raw(sent) == b""


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "the request ended early"),
        (b"plan p\n", "the request ended early"),
        (b"colour red\n.\n", "unknown key"),
        (b"plan p\n" * 64 + b".\n", "the request has too many lines"),
    ],
)
def test_a_request_is_whole_or_refused(side: Side, body: bytes, why: str) -> None:
    said = side.raw(FORMAT.encode() + b" ab probe\n" + body).decode()
    assert said.splitlines()[-1] == f"deploytool ab end refused bad-request {why}"


def test_an_unknown_verb_is_refused(side: Side) -> None:
    assert refusal(side, "format") == "bad-request"


def test_a_host_that_was_not_prepared_says_so(side: Side) -> None:
    side.remove("state/mutex")
    assert refused(side, "lock", claim()) == "not-prepared"
