"""Eight real routers, a market and a client, all processes: every share is accounted for."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploytool.arming.certificate import NAMESPACE, Certificate, CertifiedHost, next_epoch
from deploytool.fleet.sealed import seal
from deploytool.fleet.signing import sign
from deploytool.market.exchange import Quote
from deploytool.market.flow import Flow
from deploytool.market.load import Load
from deploytool.market.venue import Address

from .fleet import CLIENT, PRICES, RouterProcess, build, fleet, release_of, settled

LIMITS = {name: (price + 500, price - 500) for name, price in PRICES.items()}
QUOTES = {name: Quote(price - 100, price + 100) for name, price in PRICES.items()}
VENUES = (Address("XA", "127.0.0.1", 0), Address("XB", "127.0.0.1", 0))


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("build"))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: a Unix socket's name must fit into 107 characters."""
    path = Path(tempfile.mkdtemp(prefix="flow-"))
    yield path
    shutil.rmtree(path)


@contextmanager
def trading(artifact: Path, folder: Path) -> Iterator[tuple[Flow, list[RouterProcess]]]:
    with Flow(folder, VENUES, QUOTES) as flow, fleet(artifact, folder, flow.venues) as routers:
        flow.start_gateway([r.router for r in routers], CLIENT)
        flow.trust([release_of(artifact)])
        up = flow.wait_for_routers(len(routers), deadline_s=20)
        assert up, [flow.members(), *(r.log() for r in routers)]
        yield flow, routers


def run_and_reconcile(artifact: Path, folder: Path, parents: int) -> None:
    with trading(artifact, folder) as (flow, routers):
        assert {h["monotonic"] for h in flow.silence()["hosts"].values()} == {None}
        flow.send(Load(parents, LIMITS, qty=(1, 900), seed=1))
        progress = flow.wait(deadline_s=60)
        assert progress.finished, progress
        result = flow.reconcile(settled(routers))
        assert result.equal, result.differences[:10]
        assert result.notes == ()
        assert (result.parents, result.hosts) == (parents, 8)
        assert progress.done == parents
        assert min(member["sent"] for member in flow.members()) > 0
        heard = flow.silence()["hosts"].values()
        assert max(host["silent_s"] for host in heard) < 60


def test_a_thousand_parents_through_eight_routers_add_up_to_the_share(
    artifact: Path, folder: Path
) -> None:
    run_and_reconcile(artifact, folder, 1_000)


@pytest.mark.slow
def test_ten_thousand_parents_through_eight_routers_add_up_to_the_share(
    artifact: Path, folder: Path
) -> None:
    run_and_reconcile(artifact, folder, 10_000)


def roll_and_reconcile(artifact: Path, folder: Path, parents: int, rate: float) -> None:
    """Restart one router after the other while parents flow, as a rolling deploy does."""
    with trading(artifact, folder) as (flow, routers):
        sent = 0
        for router in routers:
            if not flow.progress().loading:  # on a busy machine the restarts outlast one load
                sent += parents
                flow.send(Load(parents, LIMITS, rate=rate, qty=(1, 900), seed=1 + sent))
            assert router.drain() == 0, router.log()
            router.start()
            assert flow.wait_for_routers(len(routers), deadline_s=20), flow.members()
        progress = flow.wait(deadline_s=60)
        assert progress.finished, progress
        result = flow.reconcile(settled(routers))
        assert result.equal, result.differences[:10]
        assert progress.done == sent
        assert all(member["logins"] > 1 for member in flow.members())


def test_no_parent_is_lost_or_duplicated_while_all_routers_are_restarted(
    artifact: Path, folder: Path
) -> None:
    roll_and_reconcile(artifact, folder, 1_500, rate=150)


def test_orders_that_work_while_their_router_drains_are_cancelled_and_counted(
    artifact: Path, folder: Path
) -> None:
    with trading(artifact, folder) as (flow, routers):
        flow.quote(mode="half")
        flow.send(Load(400, LIMITS, qty=(2, 900), seed=3))
        open_ones = flow.wait(deadline_s=2)
        assert open_ones.open > 300
        for router in routers[:4]:
            assert router.drain() == 0, router.log()
            router.start()
        assert flow.wait_for_routers(len(routers), deadline_s=20), flow.members()
        assert flow.progress().open > 0, "the four that were left alone work on"
        assert flow.cancel() > 0
        progress = flow.wait(deadline_s=20)
        assert progress.finished, progress
        result = flow.reconcile(settled(routers))
        assert result.equal, result.differences[:10]
        rows = flow.parents()
        assert all(row["cum"] and row["cxl"] for row in rows if row["order_qty"] > 20)


def test_a_router_that_is_killed_comes_back_and_every_share_is_still_accounted_for(
    artifact: Path, folder: Path
) -> None:
    with trading(artifact, folder) as (flow, routers):
        flow.quote(delay_s=0.05)
        flow.send(Load(1_600, LIMITS, rate=400, qty=(1, 900), seed=4))
        for router in routers[:3]:
            time.sleep(0.4)
            router.kill()
            router.start()
        assert flow.wait_for_routers(len(routers), deadline_s=20), flow.members()
        progress = flow.wait(deadline_s=30)
        assert progress.finished, progress
        result = flow.reconcile(settled(routers))
        assert result.equal, result.differences[:10]


def test_immediate_or_cancel_orders_are_counted_to_the_share(artifact: Path, folder: Path) -> None:
    with trading(artifact, folder) as (flow, routers):
        flow.quote("ACME", mode="half")
        flow.quote("GLOBEX", bid=1, ask=PRICES["GLOBEX"] * 10)
        flow.send(Load(300, LIMITS, qty=(2, 900), time_in_force="ioc", seed=5))
        progress = flow.wait(deadline_s=20)
        assert progress.finished, progress
        result = flow.reconcile(settled(routers))
        assert result.equal, result.differences[:10]
        assert {row["symbol"] for row in flow.parents() if row["cum"]} == {"ACME", "INITECH"}


def test_a_release_that_is_not_trusted_gets_no_order(artifact: Path, folder: Path) -> None:
    with trading(artifact, folder) as (flow, routers):
        flow.trust(["0" * 64])
        flow.send(Load(50, LIMITS))
        assert flow.wait(deadline_s=1.5).waiting == 50
        assert {m["standing"] for m in flow.members()} == {"refused"}
        assert all("not trusted" in m["why"] for m in flow.members())
        assert {r.status()["counters"]["parents"] for r in routers} == {0}
        flow.trust([release_of(artifact)])
        assert flow.wait(deadline_s=20).done == 50


def test_a_flag_that_is_withdrawn_is_not_sent_again(artifact: Path, folder: Path) -> None:
    bit = 9
    with trading(artifact, folder) as (flow, routers):
        assert flow.observe()["bits"] == []
        assert flow.use(bit)["bits"] == [bit]
        flow.send(Load(40, LIMITS))
        assert flow.wait(deadline_s=20).rejected == 40  # nobody armed it
        rejects = sum(s["counters"]["flag_rejects"] for s in settled(routers).values())
        assert rejects == 40
        last = flow.withdraw(bit)["last_sent"][str(bit)]
        flow.send(Load(40, LIMITS))
        assert flow.wait(deadline_s=20).done == 40
        seen = flow.observe()
        assert seen["bits"] == []
        assert seen["last_sent"] == {str(bit): last}
        assert flow.reconcile(settled(routers)).equal


@pytest.mark.slow
def test_ten_thousand_parents_survive_the_restart_of_all_routers(
    artifact: Path, folder: Path
) -> None:
    roll_and_reconcile(artifact, folder, 10_000, rate=800)


FLAG, BIT = "RETAIL_LIQUIDITY", 4


def arm(routers: list[RouterProcess], artifact: Path, key: Path) -> None:
    """What deploytool does, in the order in which it does it, with its own certificate."""
    table = json.loads(artifact.with_name("buildinfo.json").read_text())["flags"]
    asked = {r.router.host: r.flag("prepare", FLAG) for r in routers}
    now = int(time.time())
    certificate = Certificate(
        fleet="alpha", inventory="1" * 64, round="2" * 32, issued=now, expires=now + 60,
        epoch=next_epoch((answer["epoch"] for answer in asked.values()), now),
        hosts={
            host: CertifiedHost(release=release_of(artifact), nonce=answer["nonce"])
            for host, answer in asked.items()
        },
        flags={e["name"]: e["digest"] for e in table["entries"] if e["name"] == FLAG},
    )  # fmt: skip
    sealed = seal(certificate.canonical(), sign(certificate.canonical(), key, NAMESPACE))
    for router in routers:
        assert router.flag("prepare", FLAG, sealed) == {"ok": True, "promise": certificate.epoch}
    for verb in ("commit", "settle"):
        for router in routers:
            router.flag(verb, FLAG)
    assert {tuple(r.status()["armed"]) for r in routers} == {(FLAG,)}


def test_p3_flagged_parents_flow_through_all_routers_only_while_all_is_as_certified(
    artifact: Path, folder: Path
) -> None:
    key, signers = folder / "key", folder / "allowed_signers"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True, timeout=10
    )
    signers.write_text(f"alice {key.with_suffix('.pub').read_text()}")
    extra = ("--fleet", "alpha", "--signers", str(signers))
    with (
        Flow(folder, VENUES, QUOTES) as flow,
        fleet(artifact, folder, flow.venues, 3, extra) as routers,
    ):
        flow.start_gateway([r.router for r in routers], CLIENT)
        flow.trust([release_of(artifact)])
        assert flow.wait_for_routers(3, deadline_s=20)
        flow.send(Load(60, LIMITS, qty=(1, 300), seed=1, flags=1 << BIT))
        assert flow.wait(deadline_s=0.5).waiting == 60, "held back until the senders are told"
        arm(routers, artifact, key)
        assert flow.wait(deadline_s=0.5).waiting == 60
        flow.use(BIT, release_of(artifact))
        assert flow.wait(deadline_s=20).done == 60
        rows = flow.parents()
        assert {row["router"] for row in rows} == {"router1", "router2", "router3"}
        assert {row["flags"] for row in rows} == {1 << BIT}

        routers[2].kill()
        routers[2].start()  # it comes back with the flag off, and the senders see it
        assert flow.wait_for_routers(3, deadline_s=20)
        assert routers[2].status()["armed"] == []
        flow.send(Load(40, LIMITS, qty=(1, 300), seed=2, flags=1 << BIT))
        assert flow.wait(deadline_s=20).done == 100
        later = [row for row in flow.parents() if row not in rows]
        assert {row["router"] for row in later} == {"router1", "router2"}
        assert [r.status()["counters"]["flag_rejects"] for r in routers] == [0, 0, 0]

        assert flow.withdraw(BIT)["bits"] == []
        assert flow.observe()["open"] == flow.observe()["unacknowledged"] == {}
        for router in routers:
            assert router.flag("disarm", FLAG)["armed"] == []
        result = flow.reconcile(settled(routers))
        assert result.equal, result.differences[:10]
        flow.send(Load(5, LIMITS, seed=3, flags=1 << BIT))
        assert flow.wait(deadline_s=0.5).waiting == 5, "and back to where it began"
