"""P3: a certificate is for these hosts, this release, these meanings, once, for a while."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploytool.arming.certificate import (
    CLOCK_SKEW_S,
    LIFETIME_S,
    Certificate,
    RouterState,
    certify,
    next_epoch,
    objections,
)
from deploytool.fleet.sealed import BYTES_AT_MOST, seal, unseal
from deploytool.parity.model import HostVerdict, Round

from .fleets import NEW, NONCES, declared, new, old, round_of, unreachable

NOW = 1_800_000_000
FLAGS = {"RETAIL": "a" * 64}
SIGNATURE = "-----BEGIN SSH SIGNATURE-----\nU1NIU0lH\n-----END SSH SIGNATURE-----\n"


def issue(**changes: Any) -> Certificate:
    inventory = declared()
    taken = round_of({host: new(host) for host in inventory.names})
    given: dict[str, Any] = {"nonce": "0" * 32, "now": NOW, "epoch": 7, **changes}
    return certify(inventory, taken, NONCES, FLAGS, **given)


GOOD = issue()
ROUTER = RouterState(
    "simulated", frozenset(NONCES), "router3", NEW.sha256, "RETAIL", "a" * 64, NONCES["router3"], 6
)


def test_its_bytes_are_one_line_that_never_changes() -> None:
    content = GOOD.canonical()
    said = json.loads(content)
    assert content.count(b"\n") == 1
    assert list(said) == sorted(said)
    assert said["schema"] == 1
    assert said["fleet"] == "simulated"
    assert said["inventory"] == declared().digest()
    assert said["hosts"]["router8"] == {"nonce": NONCES["router8"], "release": NEW.sha256}
    assert said["flags"] == FLAGS
    assert (said["issued"], said["expires"], said["epoch"]) == (NOW, NOW + LIFETIME_S, 7)
    assert Certificate.parse(content) == GOOD


def test_every_router_that_was_asked_may_believe_it_from_issue_to_expiry() -> None:
    for host, nonce in NONCES.items():
        for now in (NOW - CLOCK_SKEW_S, NOW, NOW + LIFETIME_S):
            assert objections(GOOD, replace(ROUTER, host=host, nonce=nonce), now) == ()


@pytest.mark.parametrize(
    ("changes", "now", "why"),
    [
        ({}, NOW + LIFETIME_S + 1, "it expired 1 s ago"),
        ({}, NOW + LIFETIME_S + 0.001, "it expired"),
        ({}, NOW + 3600, "it expired"),
        ({}, NOW - CLOCK_SKEW_S - 1, "from the future by 31 s"),
        ({}, NOW - 3600, "from the future"),
        ({"nonce": ""}, NOW, "replay"),
        ({"nonce": "f" * 64}, NOW, "replay"),
        ({"nonce": NONCES["router4"]}, NOW, "replay"),
        ({"host": "router9"}, NOW, "not for router9"),
        ({"fleet": "other"}, NOW, "for fleet simulated, this is other"),
        ({"hosts": frozenset(NONCES) | {"router9"}}, NOW, "exactly the fleet's hosts: router9"),
        ({"hosts": frozenset(NONCES) - {"router8"}}, NOW, "exactly the fleet's hosts: router8"),
        ({"release": "b" * 64}, NOW, "this is bbbbbbbbbbbb"),
        ({"meaning": "b" * 64}, NOW, "reads RETAIL otherwise"),
        ({"meaning": None}, NOW, "has no runtime flag RETAIL"),
        ({"flag": "OTHER"}, NOW, "reads OTHER otherwise"),
        ({"epoch": 7}, NOW, "epoch 7 is not newer than 7"),
        ({"epoch": 8}, NOW, "epoch 7 is not newer than 8"),
    ],
)
def test_a_router_objects(changes: dict[str, Any], now: float, why: str) -> None:
    (said,) = objections(GOOD, replace(ROUTER, **changes), now)
    assert why in said


def test_all_objections_come_at_once() -> None:
    stranger = RouterState("other", frozenset(), "router1", "b" * 64, "OTHER", None, "", 99)
    assert len(objections(GOOD, stranger, NOW + 3600)) == 7


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"expires": NOW},
        {"expires": NOW + LIFETIME_S + 1},
        {"issued": NOW + 61},
        {"issued": float(NOW)},
        {"issued": True},
        {"issued": str(NOW)},
        {"epoch": 0},
        {"epoch": -1},
        {"hosts": {}},
        {"flags": {}},
        {"flags": {"lower": "a" * 64}},
        {"flags": {"RETAIL": "A" * 64}},
        {"fleet": ""},
        {"round": "xyz"},
        {"inventory": "a" * 63},
        {"more": 1},
    ],
)
def test_what_is_no_certificate_is_not_read_as_one(change: dict[str, Any]) -> None:
    said = {**json.loads(GOOD.canonical()), **change}
    text = json.dumps(said, sort_keys=True, separators=(",", ":")) + "\n"
    with pytest.raises(ValueError, match=r"."):
        Certificate.parse(text.encode())


def test_hosts_on_two_releases_or_with_one_nonce_are_no_parity() -> None:
    for key, value in (("release", "b" * 64), ("nonce", NONCES["router2"])):
        said = json.loads(GOOD.canonical())
        said["hosts"]["router1"][key] = value
        text = json.dumps(said, sort_keys=True, separators=(",", ":")) + "\n"
        with pytest.raises(ValueError, match=r"one release|own"):
            Certificate.parse(text.encode())


@pytest.mark.parametrize(
    "altered",
    [
        GOOD.canonical()[:-1],
        GOOD.canonical() + b"\n",
        b" " + GOOD.canonical(),
        GOOD.canonical().replace(b'"epoch":7', b'"epoch": 7'),
        GOOD.canonical().replace(b'"epoch":7', b'"epoch":7,"epoch":7'),
        GOOD.canonical().replace(b"RETAIL", b"\\u0052ETAIL"),
        GOOD.canonical()[:100],
        b"",
        b"\xff",
        b"null\n",
    ],
)
def test_another_spelling_or_a_part_of_it_is_refused(altered: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Certificate.parse(altered)


@given(st.integers(0, len(GOOD.canonical()) - 1), st.integers(1, 255))
def test_no_single_byte_can_change_without_being_seen(at: int, by: int) -> None:
    """Either it is no certificate any more, or its bytes, which are signed, are others."""
    altered = bytearray(GOOD.canonical())
    altered[at] ^= by
    try:
        found = Certificate.parse(bytes(altered))
    except ValueError:
        return
    assert found != GOOD
    assert found.canonical() == bytes(altered)


def test_it_is_sealed_and_unsealed() -> None:
    assert unseal(seal(GOOD.canonical(), SIGNATURE)) == (GOOD.canonical(), SIGNATURE)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        GOOD.canonical().decode(),
        SIGNATURE,
        "\n" + GOOD.canonical().decode() + SIGNATURE,
        GOOD.canonical().decode() + SIGNATURE[:-1],
        GOOD.canonical().decode() + SIGNATURE + "x",
        GOOD.canonical().decode() + SIGNATURE + SIGNATURE,
    ],
)
def test_what_is_not_sealed_is_not_unsealed(text: str) -> None:
    with pytest.raises(ValueError, match="one line"):
        unseal(text)


def test_no_seal_without_a_signature_nor_above_what_a_router_takes() -> None:
    for signature in (
        "",
        "x",
        SIGNATURE[:-1],
        SIGNATURE.replace("\n", "\n" + "x" * BYTES_AT_MOST, 1),
    ):
        with pytest.raises(ValueError, match=r"signature|bytes"):
            seal(GOOD.canonical(), signature)


def test_the_epoch_only_ever_grows() -> None:
    assert next_epoch([], 100) == 100
    assert next_epoch([0, 0], 100) == 100
    assert next_epoch([100, 3], 100) == 101
    assert next_epoch([500], 100) == 501
    assert next_epoch([], 0) == 1


def test_there_is_none_without_parity_on_exactly_the_declared_hosts() -> None:
    inventory = declared()
    every = {host: new(host) for host in inventory.names}

    def refused(taken: Round, nonces: dict[str, str] = NONCES) -> bool:
        with pytest.raises(ValueError, match=r"round|nonce"):
            certify(inventory, taken, nonces, FLAGS, nonce="0" * 32, now=NOW, epoch=1)
        return True

    whole = round_of(every)
    assert refused(round_of({**every, "router5": old("router5")}))
    assert refused(round_of({**every, "router5": unreachable("router5")}))
    assert refused(replace(whole, hosts=whole.hosts[1:]))
    assert refused(replace(whole, hosts=(*whole.hosts, whole.hosts[0])))
    stranger = HostVerdict("router9", (), NEW.sha256, whole.hosts[0].evidence)
    assert refused(replace(whole, hosts=(*whole.hosts[1:], stranger)))
    assert refused(replace(whole, release=None))
    assert refused(replace(whole, hosts=()))
    assert refused(whole, {host: NONCES[host] for host in inventory.names[1:]})
    assert refused(whole, {**NONCES, "router9": "9" * 64})
