"""Who may let a stopped router trade again: two people, for this latch, once its cause is gone."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from router.latch import HALTED, Latch, ResumeRefusedError
from router.resume import parse

from .conftest import Router, base_config, free_port
from .harness import Rig
from .peers import Client, Market, new_order
from .signing import Operator

Configure = Callable[..., dict[str, Any]]
START = "start.deploytool"
FLEET = "production"


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Operator]:
    names = ("alice", "bob", "mallory")
    return {name: Operator(tmp_path_factory.mktemp(name), name) for name in names}


@pytest.fixture
def stopped(
    router: Router, config: Configure, people: dict[str, Operator], tmp_path: Path
) -> Router:
    """Halted by alice; alice and bob are signers."""
    signers = tmp_path / "allowed_signers"
    signers.write_text("# who may\n\n" + people["alice"].line() + people["bob"].line())
    router.configure(config(free_port()))
    router.extra = ["--signers", str(signers), "--fleet", FLEET]
    router.start()
    assert router.run("halt", "--reason", "odd fills", "--by", "alice").returncode == 0
    return router


def request(router: Router, **change: object) -> dict[str, Any]:
    now = int(time.time())
    return {
        "by": "alice", "host": "router1", "fleet": FLEET, "latch": router.status()["latch"],
        "reason": "looked at", "issued": now, "expires": now + 60, "stop": "4c", **change,
    }  # fmt: skip


def canonical(document: dict[str, Any]) -> bytes:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode() + b"\n"


def sealed(document: dict[str, Any], signer: Operator, namespace: str = START) -> bytes:
    content = canonical(document)
    return content + signer.sign(content, namespace).encode()


def resume(router: Router, text: bytes) -> subprocess.CompletedProcess[bytes]:
    command: list[Path | str] = [router.binary, "resume", "--state", router.state]
    return subprocess.run(command, input=text, capture_output=True, timeout=20)


def refused(router: Router, text: bytes) -> str:
    """Give the rule; the router goes on being stopped by the same latch."""
    before = router.status()
    done = resume(router, text)
    after = router.status()
    assert (done.returncode, done.stdout) == (3, b""), done
    assert (after["trading_state"], after["latch"]) == ("HALTED", before["latch"])
    assert not list(router.state.glob("released-*"))
    return done.stderr.decode().partition("(")[2].partition(")")[0]


def test_p6_a_second_person_lets_it_trade_again(
    stopped: Router, people: dict[str, Operator]
) -> None:
    text = sealed(request(stopped), people["bob"])
    latch = stopped.status()["latch"]
    done = resume(stopped, text)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["trading_state"], answer["by"], answer["confirmed_by"]) == (
        "ACTIVE", "alice", "bob",
    )  # fmt: skip
    assert stopped.status()["trading_state"] == "ACTIVE"
    assert not (stopped.state / "latch.json").exists()
    assert (stopped.state / f"released-{latch}").read_bytes() == text, "to be proven later"
    assert resume(stopped, text).returncode == 3, "nothing is latched"
    stopped.run("halt", "--reason", "again")
    done = resume(stopped, text)
    assert done.returncode == 3
    assert b"(LATCH)" in done.stderr, "a request is good for one latch, not for the next"
    assert stopped.status()["trading_state"] == "HALTED"


def test_p6_what_is_not_for_this_latch_here_and_now_is_refused(
    stopped: Router, people: dict[str, Operator]
) -> None:
    bob, now = people["bob"], int(time.time())
    wrong: dict[str, dict[str, object]] = {
        "LATCH": {"latch": "0" * 16},
        "HOST": {"host": "router2"},
        "FLEET": {"fleet": "other"},
        "EXPIRED": {"issued": now - 100, "expires": now - 1},
        "FUTURE": {"issued": now + 100, "expires": now + 160},
        "FORM": {"expires": now + 4000},
        "SECOND_PERSON": {"by": "bob"},
        "SIGNATURE": {"by": "mallory"},
    }
    for rule, change in wrong.items():
        assert refused(stopped, sealed(request(stopped, **change), bob)) == rule
    good = request(stopped, reason="gepr\u00fcft: \u2713")
    assert refused(stopped, sealed(good, people["mallory"])) == "SIGNATURE", "a stranger"
    assert refused(stopped, sealed(good, bob, "parity.deploytool")) == "SIGNATURE"
    edited = sealed(good, bob).replace(b"gepr", b"GEPR")
    assert refused(stopped, edited) == "SIGNATURE"
    assert refused(stopped, canonical(good)) == "SIGNATURE", "nobody signed"
    assert refused(stopped, b"") == "REQUEST"
    assert refused(stopped, b"\xff" * 9) == "FORM"
    assert refused(stopped, b"x" * 60_000) == "FORM", "too long is not cut, but refused"
    done = stopped.run("resume", "--latch", good["latch"])
    assert (done.returncode, "SECOND_PERSON" in done.stderr) == (3, True), "no way round"
    assert resume(stopped, sealed(good, bob)).returncode == 0, "all else was right"


def test_p6_a_start_signed_for_a_reduction_does_not_release_the_halt_that_came_since(
    stopped: Router, people: dict[str, Operator]
) -> None:
    assert resume(stopped, sealed(request(stopped), people["bob"])).returncode == 0
    assert stopped.run("reduce", "--reason", "slowly", "--by", "alice").returncode == 0
    signed = sealed(request(stopped), people["bob"])
    assert stopped.run("halt", "--reason", "runaway", "--by", "carol").returncode == 0
    assert stopped.status()["reason"] == "runaway"
    done = resume(stopped, signed)
    assert (done.returncode, b"(LATCH)" in done.stderr) == (3, True)
    assert stopped.status()["trading_state"] == "HALTED"


def test_p6_a_halt_that_could_not_be_written_is_written_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "latch.new").mkdir()  # as a disk without room: nothing can be written
    latch = Latch(tmp_path)
    first = latch.close(HALTED, "runaway", "alice")
    assert "NOT on disk" in latch.reason
    (tmp_path / "latch.new").rmdir()
    assert latch.close(HALTED, "again", "bob") == first
    assert (latch.reason, latch.by) == ("runaway", "alice")
    after = Latch(tmp_path)
    assert (after.state, after.latch_id, after.reason) == (HALTED, first, "runaway")


def test_p6_a_signer_who_was_taken_out_is_out(
    stopped: Router, people: dict[str, Operator], tmp_path: Path
) -> None:
    text = sealed(request(stopped), people["bob"])
    signers = tmp_path / "allowed_signers"
    lines = signers.read_text()
    signers.write_text(people["alice"].line())
    assert refused(stopped, text) == "SIGNATURE"
    signers.unlink()
    assert refused(stopped, text) == "SIGNATURE"
    signers.write_text(people["alice"].line() + people["bob"].line(name="ALICE"))
    assert refused(stopped, text) == "SECOND_PERSON", "one person, two spellings"
    signers.write_text(lines)
    assert resume(stopped, text).returncode == 0


def test_p6_what_leaves_no_trace_releases_nothing(
    stopped: Router, people: dict[str, Operator]
) -> None:
    document = request(stopped)
    trace = stopped.state / f"released-{document['latch']}"
    trace.mkdir()
    done = resume(stopped, sealed(document, people["bob"]))
    assert b"(RECORD)" in done.stderr
    assert stopped.status()["trading_state"] == "HALTED"
    trace.rmdir()
    assert resume(stopped, sealed(document, people["bob"])).returncode == 0


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{}\n", b"[]\n", b"null\n", b"[" * 3000, b'{"by":"a"}\n', b"\xff\n",
        canonical({**dict.fromkeys(("by", "host", "fleet", "latch", "reason"), "x"),
                   "issued": 1, "expires": 60}),
        canonical({**dict.fromkeys(("by", "host", "fleet", "latch", "stop", "reason"), "x"),
                   "issued": True, "expires": 60}),
        canonical({**dict.fromkeys(("by", "host", "fleet", "latch", "stop", "reason"), "x"),
                   "issued": 1.0, "expires": 60}),
        canonical({**dict.fromkeys(("host", "fleet", "latch", "stop", "reason"), "x"), "by": "",
                   "issued": 1, "expires": 60}),
        canonical({**dict.fromkeys(("by", "host", "fleet", "latch", "stop", "reason"), "x"),
                   "issued": 60, "expires": 60}),
        canonical({**dict.fromkeys(("by", "host", "fleet", "latch", "stop", "reason", "more"), "x"),
                   "issued": 1, "expires": 60}),
        canonical({**dict.fromkeys(("by", "host", "fleet", "latch", "stop", "reason"), "x"),
                   "issued": 1, "expires": 60}).replace(b",", b", "),
        canonical({**dict.fromkeys(("by", "host", "fleet", "latch", "stop"), "x"),
                   "reason": "x" * 1001, "issued": 1, "expires": 60}),
    ],
)  # fmt: skip
def test_what_is_no_request(content: bytes) -> None:
    with pytest.raises(ResumeRefusedError) as found:
        parse(content)
    assert found.value.rule == "FORM"


# -- the cause --------------------------------------------------------------------------------


def test_p6_a_breaker_whose_cause_still_holds_is_not_released(
    router: Router, config: Configure, people: dict[str, Operator], tmp_path: Path
) -> None:
    """A position above its limit is that after a restart, too; a higher limit is configured."""
    signers = tmp_path / "allowed_signers"
    signers.write_text(people["alice"].line() + people["bob"].line())
    router.extra = ["--signers", str(signers), "--fleet", FLEET]
    with Market() as market:
        document = config(market.port)
        document["breakers"]["position_value"] = 250 * 100_000
        router.configure(document)
        router.start()
        router.until_up()
        with Client(("127.0.0.1", router.port)) as client:
            client.send(new_order("A", 300))
            client.until_done("A")
        status = router.until(lambda s: s["trading_state"] == "HALTED")
        assert "position value" in status["cause"]
        text = sealed(request(router), people["bob"])
        assert refused(router, text) == "CAUSE"
        router.kill()
        router.start()
        router.until_up()
        assert refused(router, text) == "CAUSE"
        assert router.stop() == 0
        document["breakers"]["position_value"] = 10**13
        router.configure(document)
        router.start()
        assert router.status()["cause"] is None
        assert resume(router, text).returncode == 0


def limited(config: Configure, **breakers: int) -> Rig:
    document = config(1)
    document["breakers"].update(breakers)
    rig = Rig(document)
    rig.engine.turn(100.0)
    return rig


def cause(rig: Rig, now_s: float) -> str:
    with pytest.raises(ResumeRefusedError) as found:
        rig.engine.resume(str(rig.engine.latch.latch_id), now_s)
    assert found.value.rule == "CAUSE"
    return str(found.value)


def test_a_level_holds_until_it_falls(config: Configure) -> None:
    rig = limited(config, children_per_parent=2)
    rig.order("A", 300)
    tokens = [token for token, _, _, _ in rig.sent()]
    rig.engine.turn(100.1)
    assert rig.engine.latch.state == "HALTED"
    for now_s in (100.2, 120.0):
        assert "children of one parent" in cause(rig, now_s), "the parent is still open"
    for token in tokens:
        rig.cancel(token, 100)
    rig.engine.resume(str(rig.engine.latch.latch_id), 120.1)
    rig.engine.turn(120.2)
    assert rig.engine.latch.state == "ACTIVE"


def test_what_goes_on_happening_holds_and_what_is_past_does_not(config: Configure) -> None:
    rig = limited(config)
    rig.fill(b"R1S99999999999", 1)
    rig.engine.turn(100.1)
    assert "executions repeated" in cause(rig, 100.2)
    for second in range(101, 131):  # the market goes on, one a second
        rig.fill(b"R1S99999999999", 1)
        rig.engine.turn(float(second) + 0.5)
        if second % 10 == 5:
            assert "executions repeated" in cause(rig, second + 0.6)
    rig.engine.turn(141.0)
    rig.engine.resume(str(rig.engine.latch.latch_id), 141.1)
    rig.engine.turn(141.2)
    assert rig.engine.latch.state == "ACTIVE"


def test_a_rate_holds_for_its_window(config: Configure) -> None:
    rig = limited(config, reject_min=1, reject_percent=50)
    rig.order("A", 100)
    ((token, _, _, _),) = rig.sent()
    rig.engine.fills.rejected(b"\0\x19SJ" + bytes(8) + token + b"X", 0)
    rig.engine.turn(100.5)
    assert "market rejects" in cause(rig, 105.0)
    rig.engine.resume(str(rig.engine.latch.latch_id), 110.5)


def test_p6_a_latch_survives_redeploy(binaries: dict[str, Path], tmp_path: Path) -> None:
    """Another build starts in the same state folder: older, newer, and the first again."""
    latch = ""
    for version in ("2026.0", "2026.1", "2026.0"):
        router = Router(binaries[version], tmp_path)
        router.configure(base_config(free_port()))
        router.start()
        try:
            if not latch:
                latch = json.loads(router.run("halt", "--reason", "stop").stdout)["latch"]
            status = router.status()
            assert (status["trading_state"], status["latch"]) == ("HALTED", latch)
            assert status["version"] == version
        finally:
            router.kill()


def test_p6_a_latch_is_on_the_disk_before_halt_is_answered(
    config: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Power may fail in the next instant: the file and its folder were synced by then."""
    rig, done = Rig(config(1)), []
    sync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        done.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        sync(descriptor)

    def replaced(self: Path, target: Path) -> Path:
        done.append(f"-> {target.name}")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    rig.engine.stop("HALTED", "now", "")
    assert done == ["latch.new", "-> latch.json", rig.folder.name]
