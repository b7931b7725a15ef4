"""Real processes and real sockets: markets, restarts, crashes, drains."""

from __future__ import annotations

import json
import resource
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Router, free_port
from .peers import Client, Market, by_id, new_order

Configure = Callable[..., dict[str, Any]]


def address(router: Router) -> tuple[str, int]:
    return ("127.0.0.1", router.port)


def test_an_order_from_end_to_end(router: Router, config: Configure) -> None:
    with Market() as one, Market() as two:
        router.configure(config(one.port, two.port))
        router.start()
        status = router.until_up()
        with Client(address(router)) as client:
            assert client.info[1].hex() == status["release"]
            assert client.accepted[:10].decode() == status["release"][:10]
            assert client.info[2].hex() == status["flag_table"]
            assert client.info[3].hex() == status["wire"]
            assert client.info[4].decode().strip() == "router1"
            assert client.info[7:] == (0b10011, 0b11, b"A")
            client.send(new_order("A", 300), new_order("B", 700, side="S"))
            reports = client.until_done("B")
        assert [r.last_qty for r in reports if r.clordid == "A"] == [0, 100, 100, 100]
        assert [r.cum for r in reports if r.clordid == "A"] == [0, 100, 200, 300]
        ids = [r.exec_id for r in reports]
        assert ids == sorted(set(ids))
        assert sum(one.executed.values()) + sum(two.executed.values()) == 1000
        assert one.logins == [("RTR001", status["release"][:10], "", 1)]
        status = router.status()
        assert status["positions"] == {"ACME": {"position": -400, "cost": -40_000_000}}
        assert status["counters"]["executed_qty"] == 1000
        assert status["counters"]["open_parents"] == 0
        assert router.stop() == 0


def test_immediate_or_cancel_expires(router: Router, config: Configure) -> None:
    with Market("rest") as market:
        router.configure(config(market.port))
        router.start()
        router.until_up()
        with Client(address(router)) as client:
            client.send(new_order("A", 100, tif="3"))
            last = client.until_done("A")[-1]
            assert (last.status, last.cxl, last.reason) == ("4", 100, 44)
            assert [order.tif for order in market.orders.values()] == [0]


def test_a_client_cancels(router: Router, config: Configure) -> None:
    with Market("rest") as market:
        router.configure(config(market.port))
        router.start()
        router.until_up()
        with Client(address(router)) as client:
            client.send(new_order("A", 300))
            client.report()
            router.until(lambda _: len(market.orders) == 3)
            market.fill(sorted(market.orders)[0], 60)
            assert client.report().cum == 60
            client.send(by_id("F", "A"))
            last = client.until_done("A")[-1]
            assert (last.cum, last.cxl, last.leaves, last.reason) == (60, 240, 0, 40)


def test_market_rejects_end_the_parent(router: Router, config: Configure) -> None:
    with Market("reject") as market:
        router.configure(config(market.port))
        router.start()
        router.until_up()
        with Client(address(router)) as client:
            client.send(new_order("A", 300))
            last = client.until_done("A")[-1]
            assert (last.status, last.cxl, last.reason) == ("4", 300, 41)


def test_no_market_no_order(router: Router, config: Configure) -> None:
    router.configure(config(free_port()))
    router.start()
    with Client(address(router)) as client:
        assert client.info[-1] == b"P"
        client.send(new_order("A"))
        assert client.report().reason == 23


def test_a_market_that_leaves_mid_order(router: Router, config: Configure) -> None:
    """Two of five orders arrive, then the line is cut; what was missed comes after the login."""
    with Market("rest") as market:
        router.configure(config(market.port))
        router.start()
        router.until_up()
        market.after_orders = 2
        with Client(address(router)) as client:
            client.send(new_order("A", 500))
            last = client.until_done("A")[-1]
            assert (last.qty, last.cum, last.cxl, last.leaves) == (500, 0, 500, 0)
            assert len(market.orders) == 2
            assert market.logins[0][2] == ""
            assert market.logins[1][2] == market.streams["RTR001"].name
            router.until_up()
            market.mode = "fill"
            client.send(new_order("B", 100))
            assert client.until_done("B")[-1].status == "2"
        assert len(market.orders) == 3, "nothing was sent again"


def test_an_execution_while_the_line_is_down_is_not_lost(router: Router, config: Configure) -> None:
    with Market("rest") as market:
        router.configure(config(market.port))
        router.start()
        router.until_up()
        with Client(address(router)) as client:
            client.send(new_order("A", 300))
            router.until(lambda _: len(market.orders) == 3)
            first = sorted(market.orders)[0]
            conns = list(market._conns)
            market._conns.clear()  # from here on the market writes into its stream only
            market.fill(first, 70)
            for conn in conns:
                conn.close()
            router.until(lambda status: not status["venues"][0]["up"])
            with Client(address(router), "GATE02"):
                pass
            assert client.report().status == "0"
            client.send(by_id("H", "A"))
            found = client.report()
            while found.kind != "I":
                found = client.report()
            router.until_up()
            assert router.status()["positions"]["ACME"]["position"] == 70


def test_sigkill_with_orders_in_the_market(router: Router, config: Configure) -> None:
    """What was written down is known; what works is in doubt, reconciled, never sent again."""
    with Market("rest") as market:
        router.configure(config(market.port))
        router.start()
        router.until_up()
        with Client(address(router)) as client:
            client.send(new_order("A", 300), new_order("B", 200))
            router.until(lambda _: len(market.orders) == 5)
            market.fill(sorted(market.orders)[0], 40)
            while client.report().cum != 40:
                pass
        router.kill()
        port = market.port
    router.start()  # the market is away: nothing can be known
    status = router.until(lambda status: status["counters"]["in_doubt"])
    assert status["counters"]["in_doubt"] == 5
    assert status["counters"]["open_parents"] == 2
    assert status["positions"]["ACME"]["position"] == 40
    rows = router.ask(command="orders")["orders"]
    assert {row["clordid"] for row in rows} == {"A", "B"}
    assert all(row["in_doubt"] for row in rows)
    with Client(address(router)) as client:
        client.send(new_order("A", 300))
        again = client.report()
        assert (again.kind, again.status, again.cum, again.leaves) == ("I", "U", 40, 260)
    router.kill()
    with Market("rest", port) as back:
        back.streams.update(market.streams)
        back.orders.update(market.orders)
        router.start()
        router.until_up()
        status = router.until(lambda status: not status["counters"]["in_doubt"])
        with Client(address(router)) as client:
            client.send(new_order("A", 300), new_order("B", 200))
            first, second = client.reports(2)
        assert (first.kind, first.status, first.cum, first.cxl) == ("I", "4", 40, 260)
        assert (second.kind, second.status, second.cum, second.cxl) == ("I", "4", 0, 200)
        assert len(back.orders) == 5, "nothing was sent again"
        assert router.stop() == 0


def test_a_market_that_forgot_leaves_a_doubt(router: Router, config: Configure) -> None:
    with Market("rest") as market:
        router.configure(config(market.port))
        router.start()
        router.until_up()
        with Client(address(router)) as client:
            client.send(new_order("A", 100))
            router.until(lambda _: len(market.orders) == 1)
        router.kill()
        port = market.port
    with Market("fill", port) as forgetful:
        forgetful.streams["RTR001"] = type(next(iter(market.streams.values())))("OTHER")
        router.start()
        status = router.until_up()
        assert status["counters"]["in_doubt"] == 1
        with Client(address(router)) as client:
            client.send(by_id("H", "A"))
            assert client.report().status == "U"
            client.send(new_order("B", 100))
            assert client.until_done("B")[-1].status == "2", "others trade"
        assert router.stop() == 1, "a doubt is not a clean end"
        assert "in doubt" in router.stderr()
        router.start()
        assert router.until_up()["counters"]["in_doubt"] == 1, "and it is remembered"


def test_drain_cancels_reports_and_remembers(router: Router, config: Configure) -> None:
    with Market("rest") as market:
        router.configure(config(market.port))
        router.start()
        router.until_up()
        with Client(address(router)) as client:
            client.send(new_order("A", 300))
            client.report()
            router.until(lambda status: status["counters"]["working"] == 3)
            before = client.reports(0)
            assert router.stop() == 0
            last = client.until_done("A")[-1]
            assert (last.cxl, last.reason, before) == (300, 43, [])
            kinds = set()
            while (kind := client.packet()[0]) != "":
                kinds.add(kind)
            assert "Z" in kinds
        assert market.cancel_requests == 3
        router.start()
        assert router.until_up()["counters"]["in_doubt"] == 0
        with Client(address(router)) as client:
            client.send(new_order("A", 300))
            again = client.report()
            assert (again.kind, again.status, again.cxl) == ("I", "4", 300)
            assert again.exec_id > last.exec_id


def test_tokens_are_never_used_twice(router: Router, config: Configure) -> None:
    """The market of these tests refuses a token that it has seen."""
    with Market() as market:
        router.configure(config(market.port))
        for number in range(4):
            router.start()
            router.until_up()
            with Client(address(router)) as client:
                client.send(new_order(f"A{number}", 300))
                assert client.until_done(f"A{number}")[-1].status == "2"
            if number % 2:
                router.kill()
            else:
                router.stop()
        assert len(market.orders) == 12
        assert sorted(market.orders) == [f"R1S{n:011d}" for n in range(1, 13)]


def test_a_token_leads_back_to_its_parent(router: Router, config: Configure) -> None:
    """By the records alone: the process is gone, and another one has traded since."""
    with Market() as one, Market() as two:
        router.configure(config(one.port, two.port))
        for name in ("FIRST", "SECOND"):
            router.start()
            release = router.until_up()["release"]
            with Client(address(router)) as client:
                client.send(new_order(name, 300, flags=1))
                client.until_done(name)
            router.kill()
        tokens = {token: order for market in (one, two) for token, order in market.orders.items()}
        assert len(tokens) == 6
        for token, order in tokens.items():
            found = json.loads(router.run("trace", token).stdout)
            assert (found["token"], found["qty"]) == (token, order.qty)
            assert found["venue"] == ("X0" if token in one.orders else "X1")
            assert (found["host"], found["login"]) == ("router1", order.login)
            assert found["release"] == release
            name = "FIRST" if int(token[3:]) <= 3 else "SECOND"
            assert found["parent"]["clordid"] == name
            assert (found["parent"]["qty"], found["parent"]["flags"]) == (300, 1)
    for token in ("R1S00000000099", "R1P00000000001", "", "x"):
        assert router.run("trace", token).returncode == 1


def test_halt_survives_a_restart(router: Router, config: Configure) -> None:
    with Market("rest") as market:
        router.configure(config(market.port))
        router.start()
        router.until_up()
        with Client(address(router)) as client:
            client.send(new_order("A", 300))
            router.until(lambda status: status["counters"]["working"] == 3)
            done = router.run("halt", "--reason", "enough is enough", "--by", "me")
            latch = json.loads(done.stdout)["latch"]
            last = client.until_done("A")[-1]
            assert (last.cxl, last.reason) == (300, 43)
            assert client.infos[-1][-1] == b"H"
            client.send(new_order("B"))
            assert client.report().reason == 20
        router.kill()
        router.start()
        status = router.until_up()
        assert (status["trading_state"], status["reason"]) == ("HALTED", "enough is enough")
        assert (status["latch"], status["by"]) == (latch, "me")
        assert router.run("resume", "--latch", "wrong").returncode == 3
        assert router.status()["trading_state"] == "HALTED"
        assert router.run("resume", "--latch", latch).returncode == 0
        assert router.status()["trading_state"] == "ACTIVE"


def test_a_latch_that_cannot_be_read_is_a_halt(router: Router, config: Configure) -> None:
    for text in ("", "{}", "[]", "null", '{"state": "ACTIVE"}', "\xff"):
        router.state.mkdir(parents=True, exist_ok=True)
        (router.state / "latch.json").write_text(text, "latin-1")
        router.configure(config(free_port()))
        router.start()
        assert router.status()["trading_state"] == "HALTED", text
        latch = router.status()["latch"]
        assert router.run("resume", "--latch", "unreadable").returncode == 3
        assert router.run("resume", "--latch", latch).returncode == 0
        assert router.stop() == 0


def test_a_tripped_breaker_is_still_there_after_a_restart(
    router: Router, config: Configure
) -> None:
    with Market() as market:
        document = config(market.port)
        document["breakers"]["position_value"] = 250 * 100_000
        router.configure(document)
        router.start()
        router.until_up()
        with Client(address(router)) as client:
            client.send(new_order("A", 300))
            client.until_done("A")
        assert "position value" in router.until(lambda s: s["trading_state"] == "HALTED")["reason"]
        router.kill()
        router.start()
        assert "position value" in router.status()["reason"]


def test_a_torn_record_is_taken_a_damaged_one_refused(router: Router, config: Configure) -> None:
    with Market() as market:
        router.configure(config(market.port))
        router.start()
        router.until_up()
        with Client(address(router)) as client:
            for number in range(5):
                client.send(new_order(f"A{number}"))
                client.until_done(f"A{number}")
        router.kill()
        record = router.state / "orders-00000001.rec"
        whole = record.read_bytes()
        record.write_bytes(whole + b"\0\0\0\xff torn in the middle of a wri")
        router.start()
        assert router.status()["positions"]["ACME"]["position"] == 1500
        router.kill()
        record.write_bytes(whole[:400] + b"X" + whole[401:])
        router.start(wait=False)
        assert router.process is not None
        assert router.process.wait(10) == 2
        assert "damaged" in router.stderr()


def test_a_record_that_cannot_be_written_stops_trading(
    binaries: dict[str, Path], tmp_path: Path, config: Configure
) -> None:
    """What isn't written down doesn't leave: a full disk halts, and the parent ends."""
    router = Router(binaries["2026.1"], tmp_path)
    with Market() as market:
        router.configure(config(market.port))
        router.start()
        try:
            router.until_up()
            assert router.process is not None
            used = (router.state / "orders-00000001.rec").stat().st_size
            resource.prlimit(router.process.pid, resource.RLIMIT_FSIZE, (used + 100, used + 100))
            with Client(address(router)) as client:
                client.send(new_order("A"), new_order("B"))
                router.until(lambda status: status["trading_state"] == "HALTED")
            assert "record can't be written" in router.status()["reason"]
            assert market.orders == {}
        finally:
            router.kill()


def test_the_client_session_has_rules(router: Router, config: Configure) -> None:
    router.configure(config(free_port()))
    router.start()
    with Client(address(router)) as first, Client(address(router)) as second:
        while (found := first.packet()) != ("", b""):
            assert found[0] in "ZUH"
        second.send(by_id("H", "X"))
        assert second.report().reason == 30
        assert router.status()["clients"] == ["GATE01"]


def test_eleven_thousand_waiting_reports_do_not_grow_for_ever(
    router: Router, config: Configure
) -> None:
    """A client that floods and never reads is disconnected, and the router lives."""
    router.configure(config(free_port()))
    router.start()
    client = Client(address(router))
    client.sock.settimeout(30)
    burst = b"".join(new_order(f"A{n}") for n in range(1000))
    with pytest.raises(OSError, match=r"reset|pipe"):
        client.sock.sendall(burst * 400)
    client.sock.close()
    status = router.until(lambda status: status["clients"] == [])
    assert status["trading_state"] == "ACTIVE"


def test_heartbeats_come_when_nothing_else_does(router: Router, config: Configure) -> None:
    router.configure(config(free_port()))
    router.start()
    with Client(address(router)) as client:
        began = time.monotonic()
        while client.packet()[0] != "H":
            pass
        assert 0.5 < time.monotonic() - began < 3


def test_metrics_are_prometheus_text(router: Router, config: Configure) -> None:
    router.configure(config(free_port()))
    router.start()
    text = router.run("metrics").stdout
    names = set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            names.add(line.split()[2])
        else:
            name, value = line.rsplit(" ", 1)
            assert name.partition("{")[0] in names
            float(value)
    assert {"router_parents_total", "router_working", "router_trading_state"} <= names


def test_commands_refuse_and_say_why(router: Router, config: Configure) -> None:
    router.configure(config(free_port()))
    router.start()
    assert router.run("flag", "prepare", "POWER_PEG").returncode == 3
    assert json.loads(router.run("flag", "prepare", "RETAIL_LIQUIDITY").stdout)["nonce"]
    flag = ["flag", "prepare", "RETAIL_LIQUIDITY", "--state", str(router.state)]
    told = subprocess.run(
        [router.binary, *flag], input=b"signed by nobody", capture_output=True, timeout=10
    )
    assert (told.returncode, b"refused (" in told.stderr) == (3, True), told
    assert router.run("flag", "commit", "RETAIL_LIQUIDITY").returncode == 3
    assert router.run("flag", "disarm", "RETAIL_LIQUIDITY").returncode == 0
    assert json.loads(router.run("flag", "show").stdout)["armed"] == []
    assert router.run("resume", "--latch", "x").returncode == 3
    none = subprocess.run([router.binary, "halt"], capture_output=True, timeout=10)
    assert none.returncode == 2
