"""The market over real loopback sockets: what a router relies on, and what is refused."""

from __future__ import annotations

import socket
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from deploytool.market import ouch, soup
from deploytool.market.control import ControlFault, ask

from .peers import RawRouter, Rig, eventually


def logged_in(rig: Rig, user: str = "RTR001") -> RawRouter:
    router = rig.router()
    assert router.login(user)[:1] == soup.LOGIN_ACCEPTED
    return router


def test_buys_fill_at_the_ask_and_sells_at_the_bid(rig: Rig) -> None:
    router = logged_in(rig)
    router.enter("R1S1", b"B", 300, 100_500)
    accepted, executed = router.answer(), router.answer()
    assert isinstance(accepted, ouch.Accepted)
    assert (accepted.shares, accepted.price, accepted.state) == (300, 100_500, b"L")
    assert isinstance(executed, ouch.Executed)
    assert (executed.token, executed.shares, executed.price) == (b"R1S1          ", 300, 100_000)
    router.enter("R1S2", b"T", 120, 90_000)
    assert isinstance(router.answer(), ouch.Accepted)
    sold = router.answer()
    assert isinstance(sold, ouch.Executed)
    assert sold.price == 99_900
    assert rig.ask("books")["books"] == [
        {
            "venue": "XA", "host": "RTR001", "symbol": "ACME", "position": 180, "bought": 300,
            "sold": 120, "paid": 300 * 100_000, "received": 120 * 99_900, "executions": 2,
        }
    ]  # fmt: skip


def test_a_limit_that_the_market_does_not_reach_works_until_it_does(rig: Rig) -> None:
    router = logged_in(rig)
    router.enter("R1S1", price=99_000)
    assert isinstance(router.answer(), ouch.Accepted)
    assert rig.ask("books")["hosts"][0]["working_shares"] == 100
    rig.ask("set", symbol="ACME", bid=98_000, ask=98_500)
    executed = router.answer()
    assert isinstance(executed, ouch.Executed)
    assert executed.price == 98_500


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"stock": "NONE"}, ouch.REJECT_STOCK),
        ({"shares": 0}, ouch.REJECT_SHARES),
        ({"shares": 1_000_000}, ouch.REJECT_SHARES),
        ({"shares": 2**32 - 1}, ouch.REJECT_SHARES),
        ({"price": 0}, ouch.REJECT_PRICE),
        ({"price": 2**32 - 1}, ouch.REJECT_PRICE),
        ({"price": 100_001}, ouch.REJECT_PRICE),
        ({"tif": 100_000}, ouch.REJECT_OTHER),
    ],
)
def test_what_is_no_order_is_rejected_and_trades_nothing(
    rig: Rig, wrong: dict[str, Any], reason: bytes
) -> None:
    router = logged_in(rig)
    router.enter("R1S1", **wrong)
    rejected = router.answer()
    assert isinstance(rejected, ouch.Rejected)
    assert rejected.reason == reason
    assert rig.ask("books")["books"] == []


def test_a_repeated_token_is_ignored(rig: Rig) -> None:
    router = logged_in(rig)
    router.enter("R1S1")
    router.enter("R1S1", shares=500)
    router.enter("R1S2")
    tokens = [router.answer().token for _ in range(4)]  # type: ignore[union-attr]
    assert [t[:4] for t in tokens] == [b"R1S1", b"R1S1", b"R1S2", b"R1S2"]
    assert rig.ask("books")["books"][0]["bought"] == 200
    assert rig.ask("books")["hosts"][0]["repeated"] == 1


def test_modes_half_rest_reject_and_delay(rig: Rig) -> None:
    router = logged_in(rig)
    rig.ask("set", mode="half")
    router.enter("R1S1", shares=101)
    router.answer()
    executed = router.answer()
    assert isinstance(executed, ouch.Executed)
    assert executed.shares == 50
    rig.ask("set", mode="rest")
    router.enter("R1S2")
    assert isinstance(router.answer(), ouch.Accepted)
    rig.ask("set", mode="reject")
    router.enter("R1S3")
    assert isinstance(router.answer(), ouch.Rejected)
    rig.ask("set", symbol="ZINC", mode="fill", delay_s=0.15)
    router.enter("R1S4", stock="ZINC")
    assert isinstance(router.answer(), ouch.Accepted)
    before = time.monotonic()
    assert isinstance(router.answer(), ouch.Executed)
    assert time.monotonic() - before > 0.1


def test_immediate_or_cancel_leaves_nothing_working(rig: Rig) -> None:
    router = logged_in(rig)
    rig.ask("set", mode="half")
    router.enter("R1S1", tif=ouch.IMMEDIATE_OR_CANCEL)
    router.answer()
    executed, canceled = router.answer(), router.answer()
    assert isinstance(executed, ouch.Executed)
    assert isinstance(canceled, ouch.Canceled)
    assert (executed.shares, canceled.decrement, canceled.reason) == (50, 50, b"I")
    assert rig.ask("books")["hosts"][0]["working"] == 0


def test_an_order_with_a_time_ends_with_it(rig: Rig) -> None:
    router = logged_in(rig)
    rig.ask("set", mode="rest")
    router.enter("R1S1", tif=1)
    router.answer()
    for _ in range(4):
        router.send(soup.CLIENT_HEARTBEAT)
        time.sleep(0.3)
    canceled = router.answer()
    assert isinstance(canceled, ouch.Canceled)
    assert canceled.reason == ouch.CANCEL_TIMEOUT


def test_cancel_reduces_to_the_shares_asked_for_and_mass_cancel_empties_the_book(rig: Rig) -> None:
    router = logged_in(rig)
    rig.ask("set", mode="rest")
    for n in range(50):
        router.enter(f"R1S{n}")
        router.answer()
    router.cancel("R1S0", 30)
    reduced = router.answer()
    assert isinstance(reduced, ouch.Canceled)
    assert (reduced.decrement, reduced.reason) == (70, b"U")
    for n in range(50):
        router.cancel(f"R1S{n}")
    decrements = [router.answer().decrement for _ in range(50)]  # type: ignore[union-attr]
    assert sum(decrements) == 50 * 100 - 70
    assert rig.ask("books")["hosts"][0]["working_shares"] == 0
    router.cancel("R1S0")
    router.cancel("never sent")
    router.enter("R1S99")
    assert isinstance(router.answer(), ouch.Accepted)  # nothing was said to the two before


def test_disconnect_cancels_what_works_and_the_next_login_hears_of_it(rig: Rig) -> None:
    router = logged_in(rig)
    rig.ask("set", mode="rest")
    for n in range(3):
        router.enter(f"R1S{n}")
        router.answer()
    router.close()
    eventually(lambda: rig.ask("books")["hosts"][0]["working"] == 0)
    session = rig.ask("sessions")["sessions"][0]["session"]
    again = rig.router()
    accepted = soup.unpack_login_accepted(again.login(session=session, sequence=4)[1:])
    assert accepted == soup.LoginAccepted(session, 4)
    canceled = [again.answer() for _ in range(3)]
    assert {(c.token[:4], c.decrement, c.reason) for c in canceled} == {  # type: ignore[union-attr]
        (f"R1S{n}".encode(), 100, ouch.CANCEL_SYSTEM) for n in range(3)
    }
    assert again.next() == (soup.SERVER_HEARTBEAT, b"")


def test_one_host_never_hears_of_anothers_orders(rig: Rig) -> None:
    one, two = logged_in(rig, "RTR001"), logged_in(rig, "RTR002")
    one.enter("R1S1")
    two.enter("R1S1", shares=7)
    assert one.answer().shares == 100  # type: ignore[union-attr]
    assert two.answer().shares == 7  # type: ignore[union-attr]
    bought = {row["host"]: row["bought"] for row in rig.ask("books")["books"]}
    assert bought == {"RTR001": 100, "RTR002": 7}


def test_a_second_process_cannot_trade_as_the_same_host(rig: Rig) -> None:
    first = logged_in(rig)
    assert rig.router().login() == b"JA"
    first.enter("R1S1")
    assert isinstance(first.answer(), ouch.Accepted)
    assert rig.ask("sessions")["refused_logins"] == 1


@pytest.mark.parametrize("login", [{"session": "ANOTHER"}, {"sequence": 5}])
def test_a_session_or_sequence_that_is_not_there_is_refused(
    rig: Rig, login: dict[str, Any]
) -> None:
    assert rig.router().login(**login) == b"JS"


def test_a_silent_session_is_dropped_and_a_beating_one_is_not(rig: Rig) -> None:
    silent, beating = logged_in(rig, "RTR001"), logged_in(rig, "RTR002")
    for _ in range(10):
        beating.send(soup.CLIENT_HEARTBEAT)
        time.sleep(0.1)
    up = {s["host"]: s["up"] for s in rig.ask("sessions")["sessions"]}
    assert up == {"RTR001": False, "RTR002": True}
    while (got := silent.next())[0]:
        assert got == (soup.SERVER_HEARTBEAT, b"")


def test_a_connection_that_never_logs_in_is_dropped(rig: Rig) -> None:
    assert rig.router().next() == (b"", b"")


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\x00", b"\xff\xffU", b"GET / HTTP/1.1\r\n\r\n", soup.frame(b"U", b"O"),
        soup.frame(b"U", b""), soup.frame(b"U", b"Z" * 49), soup.frame(b"?"),
        soup.frame(b"L", b" " * 46), soup.frame(b"S", b"x"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("before_login", [True, False])
def test_garbage_ends_the_session_and_never_becomes_an_order(
    rig: Rig, garbage: bytes, *, before_login: bool
) -> None:
    router = rig.router() if before_login else logged_in(rig)
    router.sock.sendall(garbage)
    while (got := router.next())[0] in (soup.SERVER_HEARTBEAT, soup.DEBUG):
        pass
    assert got == (b"", b"")
    assert rig.ask("books")["books"] == []
    assert rig.ask("sessions")["malformed"] == 1
    logged_in(rig, "RTR009")


def test_good_orders_before_garbage_are_answered(rig: Rig) -> None:
    router = logged_in(rig)
    good = soup.frame(b"U", ouch.pack(ouch.CancelOrder(b"never         ", 0)))
    router.enter("R1S1")
    router.sock.sendall(good + b"\x00\x00")
    assert isinstance(router.answer(), ouch.Accepted)
    assert isinstance(router.answer(), ouch.Executed)


def test_a_client_that_reads_nothing_is_dropped(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    from deploytool.market import session

    monkeypatch.setattr(session, "_MAX_UNSENT", 1 << 16)
    router = logged_in(rig)
    frame = b"".join(soup.frame(b"U", _numbered(n)) for n in range(60_000))
    router.sock.settimeout(10)
    with pytest.raises(OSError, match=r"reset|Broken pipe"):
        router.sock.sendall(frame * 50)
    eventually(lambda: not rig.ask("sessions")["sessions"][0]["up"])


def _numbered(n: int) -> bytes:
    return ouch.pack(
        ouch.EnterOrder(
            ouch.alpha(f"R1S{n}", 14), b"B", 1, b"ACME    ", 100_000, 99998, b"DEPL", b"Y", b"A",
            b"N", 0, b"N", b"N",
        )
    )  # fmt: skip


def test_silence_tells_when_the_last_order_came(rig: Rig) -> None:
    router = logged_in(rig)
    assert rig.ask("silence")["hosts"] == {}
    before = time.monotonic()
    router.enter("R1S1", shares=0)  # even an order that is rejected is not silence
    router.answer()
    told = rig.ask("silence")["hosts"]["RTR001"]
    assert before <= told["monotonic"] <= time.monotonic()
    assert abs(told["wall"] - time.time()) < 5
    router.cancel("R1S1")
    time.sleep(0.1)
    assert rig.ask("silence")["hosts"]["RTR001"]["monotonic"] == told["monotonic"]


def test_orders_come_page_by_page(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    from deploytool.market import venue

    monkeypatch.setattr(venue, "_PAGE", 2)
    router = logged_in(rig)
    for n in range(5):
        router.enter(f"R1S{n}")
        router.answer()
    seen: list[str] = []
    after: int | None = 0
    while after is not None:
        page = rig.ask("orders", venue="XA", host="RTR001", after=after)
        seen += [o["token"].strip() for o in page["orders"]]
        after = page["next"]
    assert seen == [f"R1S{n}" for n in range(5)]


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("nonsense", {}),
        ("set", {"symbol": "NEW"}),
        ("set", {"symbol": "ACME", "bid": 0}),
        ("set", {"symbol": "ACME", "bid": 1.5}),
        ("set", {"symbol": "ACME", "bid": "high"}),
        ("set", {"mode": "generous"}),
        ("set", {"delay_s": 1e9}),
        ("orders", {"venue": "XA", "host": "nobody"}),
    ],
)
def test_a_bad_request_is_refused_and_changes_nothing(
    rig: Rig, command: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(ControlFault, match="refused"):
        rig.ask(command, **arguments)
    router = logged_in(rig)
    router.enter("R1S1")
    router.answer()
    assert router.answer().price == 100_000  # type: ignore[union-attr]


def test_the_control_socket_is_private_and_takes_no_garbage(rig: Rig) -> None:
    path: Path = rig.market.control
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for garbage in (b"\n", b"[]\n", b"not json\n", b'{"command": 3}\n'):
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(5)
            door.connect(str(path))
            door.sendall(garbage)
            assert b'"ok": false' in door.recv(4096)
    assert rig.ask("sessions")["addresses"]


def test_asking_where_nobody_is_fails_with_the_path(tmp_path: Path) -> None:
    with pytest.raises(ControlFault, match=r"no\.sock"):
        ask(tmp_path / "no.sock", "books")
