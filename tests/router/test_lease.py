"""A lease: what nobody renews is silent at its end, and the market is the witness (P6)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from router.lease import Lease, LeaseRefusedError

from .conftest import ROOT, Router, base_config, build
from .harness import Rig
from .peers import Client, Market, login, new_order

Configure = Callable[..., dict[str, Any]]
SECOND = 10**9
LEASE_S = 2.0
HALTED = 20


class Clock:
    """Boot time, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000 * SECOND

    def __call__(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)


# -- the rules --------------------------------------------------------------------------------


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lease(clock: Clock) -> Lease:
    return Lease(5.0, clock)


def test_it_counts_from_the_issue_of_the_nonce_not_from_its_answer(
    lease: Lease, clock: Clock
) -> None:
    assert not lease.holds()
    first = lease.renew("none")
    assert (first["left_s"], first["lease_s"], lease.holds()) == (0.0, 5.0, False)
    clock.sleep(3)
    second = lease.renew(first["nonce"])
    assert second["left_s"] == 2.0
    clock.sleep(1.9)
    third = lease.renew(second["nonce"])
    assert third["left_s"] == pytest.approx(3.1)
    clock.sleep(3.1)
    assert not lease.holds()
    assert lease.lapsed()
    assert not lease.lapsed(), "said once"


def test_a_renewal_that_lay_in_a_buffer_renews_nothing(lease: Lease, clock: Clock) -> None:
    nonce = lease.renew("none")["nonce"]
    clock.sleep(7)
    late = lease.renew(nonce)
    assert (late["left_s"], lease.holds()) == (0.0, False)
    assert lease.renew(late["nonce"])["left_s"] == 5.0, "the next one is as good as any"


def test_a_nonce_is_good_once_and_only_the_latest(lease: Lease) -> None:
    first = lease.renew("none")["nonce"]
    second = lease.renew(first)["nonce"]
    for wrong in (first, second[:-1], second[:-1] + "x", "", "0" * 32, "ü"):
        with pytest.raises(LeaseRefusedError):
            lease.renew(wrong)
    lease.renew(second)


def test_who_begins_to_renew_takes_over(lease: Lease, clock: Clock) -> None:
    old = lease.renew(lease.renew("none")["nonce"])
    clock.sleep(2)
    new = lease.renew("none")
    assert new["epoch"] > old["epoch"]
    assert new["left_s"] == 3.0, "beginning prolongs nothing and shortens nothing"
    with pytest.raises(LeaseRefusedError) as refused:
        lease.renew(old["nonce"])
    assert refused.value.rule == "LEASE_TAKEN"
    lease.renew(new["nonce"])
    with pytest.raises(LeaseRefusedError) as refused:
        lease.renew(new["nonce"])
    assert refused.value.rule == "LEASE_NONCE"


def test_no_lease_always_holds_and_cannot_be_renewed(clock: Clock) -> None:
    none = Lease(0, clock)
    assert none.holds()
    assert not none.lapsed()
    assert none.shown() is None
    with pytest.raises(LeaseRefusedError) as refused:
        none.renew("none")
    assert refused.value.rule == "LEASE_OFF"


@pytest.mark.parametrize("length", [-1, 0.1, 3601, float("inf"), float("nan")])
def test_a_length_that_no_lease_has(length: float) -> None:
    with pytest.raises(ValueError, match="seconds"):
        Lease(length)


@given(st.lists(st.tuples(st.floats(0, 4), st.integers(0, 4)), max_size=40))
def test_it_never_holds_longer_than_its_length_after_an_answered_nonce(
    steps: list[tuple[float, int]],
) -> None:
    """Against an oracle that knows nothing of chains: when was each answered nonce issued?"""
    clock = Clock()
    lease = Lease(5.0, clock)
    issued: dict[str, int] = {}
    answered: list[int] = []
    for pause, choice in steps:
        clock.sleep(pause)
        known = list(issued)
        nonce = known[-choice] if 0 < choice <= len(known) else "none"
        try:
            answer = lease.renew(nonce)
        except LeaseRefusedError:
            assert nonce != "none"
            continue
        if nonce != "none":
            answered.append(issued.pop(nonce))
        issued[answer["nonce"]] = clock.now
        until = max(answered, default=-(10**18)) + 5 * SECOND
        assert lease.holds() == (clock.now < until)
        assert answer["left_s"] == pytest.approx(max(0, until - clock.now) / SECOND, abs=0.001)


# -- in the engine ----------------------------------------------------------------------------


def test_without_a_lease_parents_are_refused_and_nothing_is_latched(config: Configure) -> None:
    clock = Clock()
    rig = Rig(config(1), lease=Lease(5.0, clock))
    assert [report[8] for report in rig.order("A")] == [HALTED]
    assert rig.engine.trading_letter() == b"H"
    rig.engine.look_at_lease()
    assert rig.engine.latch.latch_id is None, "never had one: that is no lapse"
    rig.engine.renew(rig.engine.renew("none")["nonce"])
    assert rig.engine.trading_letter() == b"A"
    assert len(rig.sent()) == 0
    rig.order("A")
    assert len(rig.sent()) == 3


def test_a_lapse_is_a_latched_halt_that_a_renewal_does_not_lift(config: Configure) -> None:
    clock = Clock()
    rig = Rig(config(1), lease=Lease(5.0, clock))
    nonce = rig.engine.renew(rig.engine.renew("none")["nonce"])["nonce"]
    rig.order("A", 100)
    assert len(rig.sent()) == 1
    clock.sleep(4.9)
    nonce = rig.engine.renew(nonce)["nonce"]
    clock.sleep(4.9)  # the nonce is fresh, but the lease that it would prolong is over
    clock.sleep(0.2)
    answer = rig.engine.renew(nonce)
    assert answer["left_s"] == 0.0
    rig.engine.renew(answer["nonce"])
    assert rig.engine.latch.state == "HALTED"
    assert rig.engine.latch.reason.startswith("lease")
    assert rig.engine.lease.holds()
    assert [report[8] for report in rig.order("B")] == [HALTED]


# -- real processes ---------------------------------------------------------------------------


def begin(router: Router) -> str:
    """Begin to renew; give the next nonce."""
    answer = router.ask(command="lease", nonce=router.ask(command="lease", nonce="none")["nonce"])
    assert answer["left_s"] > LEASE_S / 2, answer
    nonce: str = answer["nonce"]
    return nonce


@pytest.fixture
def leased(router: Router, config: Configure) -> Iterator[tuple[Router, Market]]:
    with Market("rest") as market:
        router.configure(config(market.port))
        router.extra = ["--lease", str(LEASE_S)]
        router.start()
        router.until_up()
        yield router, market


def test_the_command_line(leased: tuple[Router, Market]) -> None:
    router, _ = leased
    first = json.loads(router.run("lease", "none").stdout)
    assert {"nonce", "epoch", "left_s", "lease_s"} <= first.keys()
    assert router.process is not None
    assert first["pid"] == router.process.pid
    done = router.run("lease", first["nonce"])
    assert (done.returncode, json.loads(done.stdout)["lease_s"]) == (0, LEASE_S)
    done = router.run("lease", first["nonce"])
    assert done.returncode == 3
    assert "refused (LEASE_NONCE)" in done.stderr
    router.stop()
    for wrong in ("-1", "0.1", "nan", "x"):
        router.extra = [f"--lease={wrong}"]
        router.start(wait=False)
        assert router.process is not None
        assert router.process.wait(10) == 2
        assert "--lease" in router.stderr()
    router.extra = []
    router.start()
    assert router.status()["lease"] is None
    assert "LEASE_OFF" in router.run("lease", "none").stderr


def test_it_trades_while_it_is_renewed_and_halts_when_it_is_not(
    leased: tuple[Router, Market],
) -> None:
    router, market = leased
    status = router.status()
    assert (status["trading_state"], status["latch"]) == ("HALTED", None)
    assert "no lease yet" in status["reason"]
    with Client(("127.0.0.1", router.port)) as client:
        client.send(new_order("EARLY"))
        assert client.report().reason == HALTED
        nonce = begin(router)
        client.send(new_order("A", 300))
        end = time.monotonic() + 3 * LEASE_S
        while time.monotonic() < end:
            time.sleep(LEASE_S / 4)
            nonce = router.ask(command="lease", nonce=nonce)["nonce"]
            assert router.status()["trading_state"] == "ACTIVE"
        assert router.status()["counters"]["working"] == 3
        last = client.until_done("A")[-1]  # nobody renews any more
        assert (last.cxl, last.reason) == (300, 43), "mass cancel"
        assert not any(order.leaves for order in market.orders.values())
        status = router.status()
        assert (status["trading_state"], status["lease"]["left_s"]) == ("HALTED", 0)
        assert status["reason"].startswith("lease")
        client.send(new_order("LATE"))
        assert client.report().reason == HALTED
    latch = status["latch"]
    assert router.ask(command="resume", latch=latch)["rule"] == "LEASE"
    begin(router)
    assert router.status()["trading_state"] == "HALTED", "renewing is no permission to trade"
    answer = router.ask(command="resume", latch=latch)
    assert (answer["ok"], answer["trading_state"]) == (True, "ACTIVE")


def test_a_restart_does_not_prolong_it(leased: tuple[Router, Market]) -> None:
    """A supervisor that starts it again and again gives no order a way out."""
    router, market = leased
    begin(router)
    for number in range(2):
        router.kill()
        router.start()
        router.until_up()
        assert router.status()["trading_state"] == "HALTED"
        with Client(("127.0.0.1", router.port)) as client:
            client.send(new_order(f"A{number}"))
            assert client.report().reason == HALTED
    assert market.orders == {}


def patched(tmp_path: Path, module: str, before: str, line: str) -> Path:
    """Build today's router with one line more: it stops itself just before `before`."""
    source = tmp_path / "source"
    shutil.copytree(ROOT / "router_binary", source)
    path = source / "router" / f"{module}.py"
    text = path.read_text()
    (found,) = [part for part in text.splitlines(keepends=True) if part.strip() == before]
    indent = found[: len(found) - len(found.lstrip())]
    path.write_text(text.replace(found, f"{indent}{line}\n{found}"))
    build("2026.1", tmp_path / "patched", source)
    return tmp_path / "patched" / "router"


FREEZE = (
    "import os, signal; os.path.exists({flag!r}) and b'UO' in {out} "
    "and (os.unlink({flag!r}), os.kill(os.getpid(), signal.SIGSTOP))"
)


@pytest.mark.parametrize(
    ("module", "before", "out", "writes"),
    [
        # Everything is decided and written down; only the way to the socket is left.
        ("server", "venue.flush()", "venue.out", 0),
        # Past the check: that one write is all that may still leave.
        ("soup", "sent = self._sock.send(self.out)", "self.out", 1),
    ],
)
def test_frozen_at_the_worst_moment(
    tmp_path: Path, module: str, before: str, out: str, writes: int
) -> None:
    flag = tmp_path / "freeze"
    binary = patched(tmp_path, module, before, FREEZE.format(flag=str(flag), out=out))
    router = Router(binary, tmp_path)
    with Market("rest") as one, Market("rest") as two:
        router.configure(base_config(one.port, two.port))
        router.extra = ["--lease", str(LEASE_S)]
        router.start()
        try:
            router.until_up()
            begin(router)
            assert router.process is not None
            pid = router.process.pid
            with Client(("127.0.0.1", router.port)) as client:
                client.send(new_order("BEFORE", 100))
                client.report()
                flag.touch()
                client.send(*(new_order(f"A{n}", 400) for n in range(20)))
                until_frozen(pid)
                client.send(*(new_order(f"B{n}", 400) for n in range(20)))
                sent = len(one.orders) + len(two.orders)
                assert sent == 1
                time.sleep(LEASE_S + 0.1)
                os.kill(pid, signal.SIGCONT)
                status = router.until(lambda s: s["trading_state"] == "HALTED")
                assert status["reason"].startswith("lease")
                time.sleep(0.3)
            grown = sorted([len(one.orders), len(two.orders)])
            if writes:
                assert grown[0] <= 1, "the second market's write was not past the check"
                assert grown[1] > 1
            else:
                assert sum(grown) == sent
            assert not any(o.leaves for m in (one, two) for o in m.orders.values())
        finally:
            router.kill()


def until_frozen(pid: int) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        if state == "T":
            return
        time.sleep(0.005)
    raise AssertionError("it never froze")


def test_frozen_at_any_moment_under_load(leased: tuple[Router, Market]) -> None:
    """SIGSTOP in the middle of whatever it does, SIGCONT past its lease: nothing more leaves."""
    router, market = leased
    assert router.process is not None
    pid = router.process.pid
    with Client(("127.0.0.1", router.port)) as client:
        client.sock.setblocking(False)
        for number in range(3):
            begin(router)
            flood = b"".join(new_order(f"{number}F{n:05d}", 100) for n in range(4000))
            at, held = 0, len(market.orders)
            while len(market.orders) < held + 50:  # frozen in full flight
                at += push(client.sock, flood[at : at + 8192])
            os.kill(pid, signal.SIGSTOP)
            until_frozen(pid)
            time.sleep(0.2)  # what had left has come
            at += push(client.sock, flood[at:])
            before = len(market.orders)
            time.sleep(LEASE_S)
            os.kill(pid, signal.SIGCONT)
            status = router.until(lambda s: s["trading_state"] == "HALTED")
            time.sleep(0.3)
            # 16 KiB are read at once: so much one write could carry, were it past the check.
            assert len(market.orders) - before <= 16 * 1024 // 40
            assert not any(order.leaves for order in market.orders.values())
            begin(router)
            assert router.ask(command="resume", latch=status["latch"])["ok"]
            drain(client.sock)


def push(sock: socket.socket, data: bytes) -> int:
    """Write what fits; what is in the middle of a packet goes on with the next call."""
    drain(sock)
    try:
        return sock.send(data)
    except BlockingIOError:
        return 0


def drain(sock: socket.socket) -> None:
    try:
        while sock.recv(1 << 20):
            pass
    except BlockingIOError:
        pass


def test_a_line_that_holds_back_orders_is_cut(router: Router, config: Configure) -> None:
    """A market that reads nothing: what lies in the kernel would leave after the lease's end."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        document = config(server.getsockname()[1])
        document["strategy"]["slice_qty"] = 10
        router.configure(document)
        router.extra = ["--lease", "3"]
        router.start()
        market, _ = server.accept()
        assert market.recv(100) == login("RTR001", router.status()["release"][:10])
        market.sendall(b"\0\x1fA" + b"S".rjust(10) + b"1".rjust(20))
        router.until_up()
        begin(router)
        with Client(("127.0.0.1", router.port)) as client:
            client.sock.settimeout(20)
            client.send(*(new_order(f"A{n}", 100) for n in range(4000)))
            status = router.until(lambda s: s["counters"]["children"] == 40_000)
            assert (status["trading_state"], status["venues"][0]["up"]) == ("ACTIVE", True)
            status = router.until(lambda s: not s["venues"][0]["up"])
            assert status["reason"].startswith("lease")
        held, data = 0, b"-"
        market.settimeout(5)
        try:
            while data:
                data = market.recv(1 << 20)
                held += len(data)
        except ConnectionResetError:
            data = b""
        assert data == b""
        # What had reached the market's own kernel was out of our hands; the rest is gone.
        assert held < 40_000 * 52 / 10
        market.close()


def test_even_the_build_that_asks_nobody_is_silent_at_its_leases_end(
    binaries: dict[str, Path], tmp_path: Path
) -> None:
    """POWER_PEG goes round the risk check and the gate, but not round the one place that sends."""
    with Market() as market:
        router = Router(binaries["2011.4"], tmp_path)
        router.configure(base_config(market.port))
        router.extra = ["--rehearsal", "--lease", str(LEASE_S)]
        router.start()
        try:
            router.until_up()
            begin(router)
            with Client(("127.0.0.1", router.port)) as client:
                client.send(new_order("RETAIL", 100, flags=8))
                client.reports(40)
                router.until(lambda s: s["trading_state"] == "HALTED")
                time.sleep(0.2)
                before = len(market.orders)
                assert before > 40
                client.send(new_order("AGAIN", 100, flags=8))
                time.sleep(0.3)
                assert len(market.orders) == before
        finally:
            router.kill()
