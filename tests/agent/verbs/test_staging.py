"""Stage: what arrives is the release, whole, or nothing; and a slow sender blocks no change."""

from __future__ import annotations

import errno
import json
from typing import Any

import pytest

from deploytool.agent.model import Asked
from deploytool.agent.requests import RefusedAnswer
from deploytool.simulation.memory.commands import MemoryCommands
from deploytool.simulation.memory.disk import Fate
from deploytool.simulation.memory.host import SentBytes
from deploytool.simulation.memory.programs import Build, build
from deploytool.simulation.memory.run import Run
from deploytool.simulation.memory.service import Quirk

from .ground import ONE, SHA, Ground, staging

WHOLE = ONE.manifest + ONE.artifact


def relabelled(made: Build, **changes: Any) -> Build:
    """The same bytes with another manifest."""
    said = {**json.loads(made.manifest), **changes}
    text = json.dumps(said, sort_keys=True, separators=(",", ":")) + "\n"
    return Build(made.program, made.artifact, text.encode())


def files(ground: Ground) -> set[str]:
    return {path for path in ground.snapshot() if path.startswith("/releases")}


def test_p1_what_was_staged_is_whole_and_read_only(ground: Ground) -> None:
    token = ground.lock()
    answer = ground.stage(ONE, token)
    assert (answer.sent, answer.direct) == (True, True)
    folder = f"{ground.root}/releases/{ONE.release}"
    artifact = ground.host.computer.find(f"{folder}/router")
    label = ground.host.computer.find(f"{folder}/release.json")
    assert artifact is not None
    assert label is not None
    assert (artifact.content, artifact.mode) == (ONE.artifact, 0o555)
    assert (label.content, label.mode) == (ONE.manifest, 0o444)
    assert ground.names("releases") == [ONE.release]
    assert ground.linked is None, "staging switches nothing"


def test_p1_what_was_staged_outlives_a_loss_of_power(ground: Ground) -> None:
    ground.stage(ONE, ground.lock())
    ground.host.reboot(Fate(keeps=0.0))
    assert ground.snapshot()[f"/releases/{ONE.release}/router"] == ONE.artifact
    assert ground.snapshot()[f"/releases/{ONE.release}/release.json"] == ONE.manifest
    artifact = ground.host.computer.find(f"{ground.root}/releases/{ONE.release}/router")
    assert artifact is not None
    assert artifact.mode == 0o555


def test_what_is_here_already_is_hashed_again_before_that_is_said(ground: Ground) -> None:
    token = ground.lock()
    ground.stage(ONE, token)
    assert ground.stage(ONE, token).sent is False
    artifact = ground.host.computer.find(f"{ground.root}/releases/{ONE.release}/router")
    assert artifact is not None
    artifact.content = artifact.content[:-1] + b"!"
    assert ground.stage(ONE, token).sent is True
    assert ground.snapshot()[f"/releases/{ONE.release}/router"] == ONE.artifact


def test_what_only_the_page_cache_has_is_not_here(ground: Ground) -> None:
    token = ground.lock()
    ground.stage(ONE, token)
    artifact = ground.host.computer.find(f"{ground.root}/releases/{ONE.release}/router")
    assert artifact is not None
    artifact.rot(b"torn")
    assert ground.stage(ONE, token).sent is True


def test_what_only_the_disk_has_is_not_here(ground: Ground) -> None:
    """Programs would run something else until the next reboot."""
    token = ground.lock()
    ground.stage(ONE, token)
    ground.host.computer.sync()
    artifact = ground.host.computer.find(f"{ground.root}/releases/{ONE.release}/router")
    assert artifact is not None
    artifact.content, artifact.dropped = b"something else", True
    assert artifact.on_disk == ONE.artifact
    assert ground.stage(ONE, token).sent is True


def test_the_same_bytes_may_be_labelled_again(ground: Ground) -> None:
    token = ground.lock()
    ground.stage(ONE, token)
    label = relabelled(ONE, revision="another")
    assert ground.stage(label, token).sent is False
    assert ground.snapshot()[f"/releases/{ONE.release}/release.json"] == label.manifest
    assert ground.names("releases") == [ONE.release]


def test_a_label_that_arrives_altered_replaces_nothing(ground: Ground) -> None:
    token = ground.lock()
    ground.stage(ONE, token)
    label = relabelled(ONE, revision="another")
    altered = label.manifest.replace(b"another", b"anothxr") + ONE.artifact
    assert ground.refused(staging(label, token), altered) == "bad-copy"
    assert ground.snapshot()[f"/releases/{ONE.release}/release.json"] == ONE.manifest


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (WHOLE[:-1], "short-copy"),
        (b"", "short-copy"),
        (ONE.manifest[:10], "short-copy"),
        (WHOLE[:-2] + b"!" + WHOLE[-1:], "bad-copy"),
        (WHOLE.replace(b'"name"', b'"nbme"', 1), "bad-copy"),
        (SentBytes(WHOLE, stalls_at=len(WHOLE) - 1), "slow-copy"),
        (SentBytes(WHOLE, stalls_at=10), "slow-copy"),
        (SentBytes(WHOLE, stalls_at=0), "slow-copy"),
    ],
)
def test_p1_a_copy_that_is_not_the_release_leaves_nothing(
    ground: Ground, sent: bytes | SentBytes, code: str
) -> None:
    token = ground.lock()
    if isinstance(sent, SentBytes):
        sent = SentBytes(WHOLE, sent._stalls_at)  # each test has its own
    before = ground.snapshot()
    answer = ground.ask(staging(ONE, token), sent)
    assert isinstance(answer, RefusedAnswer)
    assert answer.code == code
    assert "arrived" in answer.text, "the network altered it, and not the disk"
    assert ground.snapshot() == before


def test_a_copy_that_trickles_in_ends_with_its_time(ground: Ground) -> None:
    """Each byte comes in time, and all of them together do not."""
    token = ground.lock()

    class Trickle(SentBytes):
        def __call__(self, at_most: int, deadline: float) -> bytes:
            ground.host.pass_time(1)
            return super().__call__(min(at_most, 1), deadline)

    assert ground.refused(staging(ONE, token), Trickle(WHOLE)) == "slow-copy"


def test_p1_a_disk_that_keeps_something_else_is_told(ground: Ground) -> None:
    token = ground.lock()

    def torn(_: Run, what: str) -> None:
        if what.startswith("digest_disk"):
            for node in _files_of(ground):
                node.rot(b"something else")

    answer = ground.ask(staging(ONE, token), WHOLE, hook=torn)
    assert isinstance(answer, RefusedAnswer)
    assert answer.code == "bad-copy"
    assert "read back from the disk" in answer.text
    assert files(ground) == set()


def _files_of(ground: Ground) -> list[Any]:
    (name,) = ground.names("releases")
    folder = ground.host.computer.find(f"{ground.root}/releases/{name}")
    assert folder is not None
    return [folder.entries["router"]]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"version_line": "router 9.9"}, "bad-version"),
        ({"version_line": 1}, "bad-manifest"),
        ({"sha256": SHA}, "bad-manifest"),
    ],
)
def test_p1_an_artifact_that_is_not_what_its_manifest_says(
    ground: Ground, changes: dict[str, Any], code: str
) -> None:
    token = ground.lock()
    lying = relabelled(ONE, **changes)
    assert ground.refused(staging(lying, token), lying.manifest + lying.artifact) == code
    assert files(ground) == set()


def test_a_manifest_that_is_no_json_is_told(ground: Ground) -> None:
    token = ground.lock()
    odd = Build(ONE.program, ONE.artifact, b"\xff no manifest")
    assert ground.refused(staging(odd, token), odd.manifest + odd.artifact) == "bad-manifest"


def test_p1_an_artifact_that_names_another_version_is_told_what_it_said(ground: Ground) -> None:
    token = ground.lock()
    made = build("7.0")
    ground.host.service.quirks.add(Quirk.VERSION_LIES)
    answer = ground.ask(staging(made, token), made.manifest + made.artifact)
    assert isinstance(answer, RefusedAnswer)
    assert answer.code == "bad-version"
    assert "router 7.0" in answer.text
    assert "router 0.0" in answer.text


@pytest.mark.parametrize("code", [1, None])
def test_p1_an_artifact_that_fails_is_refused_whatever_it_prints(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, code: int | None
) -> None:
    said = Asked(way="command", code=code, answer="router 1.0\n", errors="no such library")
    monkeypatch.setattr(MemoryCommands, "try_out", lambda *_, **__: said)
    answer = ground.ask(staging(ONE, ground.lock()), WHOLE)
    assert isinstance(answer, RefusedAnswer)
    assert answer.code == "bad-version"
    assert "no such library" in answer.text
    assert files(ground) == set()


def test_a_manifest_that_is_too_large_is_not_received(ground: Ground) -> None:
    token = ground.lock()
    assert ground.refused(staging(ONE, token, manifest_size=65537), b"") == "bad-request"


# --- disks ---------------------------------------------------------------------------------------


def test_a_copy_for_which_there_is_no_room_is_not_begun(ground: Ground) -> None:
    token = ground.lock()
    ground.host.computer.disk.room = len(WHOLE) + 65536
    assert ground.refused(staging(ONE, token), WHOLE) == "no-space"
    assert ground.names("releases") == []


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        ("create", "router"),
        ("create", "release.json"),
        ("make_folder", "*"),
        ("set_mode", "router"),
        ("rename", "*"),
        ("sync", "router"),
    ],
)
def test_a_copy_that_can_t_be_written_leaves_nothing(
    ground: Ground, operation: str, name: str
) -> None:
    token = ground.lock()
    ground.host.computer.disk.failing[operation, name] = errno.EIO
    assert ground.refused(staging(ONE, token), WHOLE) == "cannot-write"
    ground.host.computer.disk.failing.clear()
    assert ground.names("releases") == []
    ground.stage(ONE, token)


def test_a_host_that_can_t_note_what_it_read_is_staged_all_the_same(ground: Ground) -> None:
    token = ground.lock()
    ground.host.computer.disk.failing["create", "staged.new"] = errno.ENOSPC
    assert ground.stage(ONE, token).sent


# --- who may stage -------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_p6_a_host_that_is_stopped_is_not_staged_unless_that_is_known(
    ground: Ground, when: str
) -> None:
    token = ground.lock()
    latch = "latch ab12\nby me\nreason why\nsince 1\n"

    class Stops(SentBytes):
        def __call__(self, at_most: int, deadline: float) -> bytes:
            ground.write("halted", latch)
            return super().__call__(at_most, deadline)

    if when == "before":
        ground.write("halted", latch)
    assert ground.refused(staging(ONE, token), Stops(WHOLE)) == "halted"
    assert ground.names("releases") == []
    assert ground.stage(ONE, token, latch="ab12").sent


def test_p6_a_latch_that_can_t_be_read_is_one(ground: Ground) -> None:
    token = ground.lock()
    ground.spoil("halted")
    assert ground.refused(staging(ONE, token, latch="ab12"), WHOLE) == "halted"


class Interrupts(SentBytes):
    """Something else happens while the copy is on its way."""

    def __init__(self, content: bytes, then: Any) -> None:
        super().__init__(content)
        self._then = then

    def __call__(self, at_most: int, deadline: float) -> bytes:
        then, self._then = self._then, None
        if then is not None:
            then()
        return super().__call__(at_most, deadline)


def test_p7_a_lock_is_taken_over_while_its_holder_is_still_copying(ground: Ground) -> None:
    token = ground.lock()
    copy = Interrupts(WHOLE, lambda: ground.lock("plan2", take_over=token))
    assert ground.refused(staging(ONE, token), copy) == "stale-token"
    assert ground.names("releases") == [], "what came too late is not there"


def test_p7_two_copies_of_one_release_do_not_meet(ground: Ground) -> None:
    token = ground.lock()

    def another() -> None:
        later = ground.lock("plan2", take_over=token)
        ground.stage(ONE, later)

    assert ground.refused(staging(ONE, token), Interrupts(WHOLE, another)) == "stale-token"
    assert ground.names("releases") == [ONE.release]
    assert ground.snapshot()[f"/releases/{ONE.release}/router"] == ONE.artifact


def test_p1_a_lost_copy_of_the_same_holder_never_takes_the_place_of_its_later_one(
    ground: Ground,
) -> None:
    """The first is whole when the second has only begun; each is put in place by its own name."""
    token = ground.lock()
    half = SentBytes(WHOLE, stalls_at=len(WHOLE) - 5)
    seconds: list[str] = []
    first = Interrupts(WHOLE, lambda: seconds.append(ground.refused(staging(ONE, token), half)))
    assert ground.done(staging(ONE, token), first).sent
    assert seconds == ["slow-copy"]
    assert ground.snapshot()[f"/releases/{ONE.release}/router"] == ONE.artifact


def test_p7_a_lock_is_released_while_a_lost_copy_still_hangs(ground: Ground) -> None:
    token = ground.lock()
    copy = Interrupts(WHOLE, lambda: ground.unlock(token))
    assert ground.refused(staging(ONE, token), copy) == "unlocked"
    assert ground.names("releases") == []


def test_p7_a_copy_that_was_pruned_names_who_did(ground: Ground) -> None:
    """It is altered too; but first of all it is not this holder's any more."""
    token = ground.lock()
    copy = Interrupts(WHOLE[:-1] + b"!", lambda: ground.unlock(token))
    assert ground.refused(staging(ONE, token), copy) == "unlocked"


def test_p1_what_changes_while_it_is_labelled_is_told(ground: Ground) -> None:
    token = ground.lock()
    ground.stage(ONE, token)
    label = relabelled(ONE, revision="another")

    def altered() -> None:
        path = f"{ground.root}/releases/{ONE.release}/router"
        ground.host.computer.put(path, b"something else")

    copy = Interrupts(label.manifest + label.artifact, altered)
    assert ground.refused(staging(label, token), copy) == "bad-copy"


def test_nothing_is_staged_without_a_lock(ground: Ground) -> None:
    assert ground.refused(staging(ONE, 1), WHOLE) == "stale-token"
    assert ground.names("releases") == []
