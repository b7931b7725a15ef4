"""A certificate is the same thing to who makes it and to the router that has to believe it.

The golden file holds both sides to one format and to the same objections, word for word; beyond
it, whatever a machine can think up is a certificate to both or to neither.
"""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploytool.arming import certificate as ours
from deploytool.fleet import sealed as sealed_text

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "router_binary"))

from router import certificate as theirs  # noqa: E402 the router's sources are no package of ours
from router import signatures  # noqa: E402

GOLDEN: dict[str, Any] = json.loads((HERE / "golden" / "certificates.json").read_text("utf-8"))
LINE: bytes = GOLDEN["line"].encode()


def test_both_sides_read_and_spell_the_golden_certificate_alike() -> None:
    assert ours.Certificate.parse(LINE).canonical() == LINE
    assert theirs.parse(LINE) == json.loads(LINE)
    assert set(theirs.CHECKS) == set(json.loads(LINE))


@pytest.mark.parametrize("case", GOLDEN["objections"], ids=lambda case: case["case"])
def test_p3_both_sides_object_alike(case: dict[str, Any]) -> None:
    own = {**GOLDEN["router"], **case["router"]}
    own["hosts"] = frozenset(own["hosts"])
    said = tuple(case["says"])
    assert (
        ours.objections(ours.Certificate.parse(LINE), ours.RouterState(**own), case["now"]) == said
    )
    assert theirs.objections(theirs.parse(LINE), theirs.Own(**own), case["now"]) == said
    assert bool(said) == (not case["case"].startswith("good"))


@pytest.mark.parametrize("case", GOLDEN["no_certificate"], ids=lambda case: case["case"])
def test_p3_both_sides_refuse_what_is_no_certificate(case: dict[str, Any]) -> None:
    content = case["line"].encode()
    with pytest.raises(ValueError, match=r"."):
        ours.Certificate.parse(content)
    with pytest.raises(theirs.BadCertificateError, match=r"."):
        theirs.parse(content)


def both(content: bytes) -> tuple[bool, bool]:
    """Whether it is a certificate, to us and to a router."""
    verdicts = []
    for parse, refusal in (
        (ours.Certificate.parse, ValueError),
        (theirs.parse, theirs.BadCertificateError),
    ):
        try:
            parse(content)
        except refusal:
            verdicts.append(False)
        else:
            verdicts.append(True)
    return verdicts[0], verdicts[1]


PATHS = [
    *((key,) for key in json.loads(LINE)),
    ("hosts", "router1"), ("hosts", "router1", "nonce"), ("hosts", "router1", "release"),
    ("hosts", "new"), ("flags", "RETAIL_LIQUIDITY"), ("flags", "NEW"), ("new",),
]  # fmt: skip
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**60), 2**60), st.floats(), st.text(max_size=70),
    st.sampled_from(["a" * 64, "b" * 64, "f" * 32, "production", "x" * 33, "a\n", 1, 0]),
    st.integers(1_800_000_000 - 90, 1_800_000_000 + 90),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
    st.just({"nonce": "e" * 64, "release": "a" * 64}), st.lists(st.integers(), max_size=2),
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PATHS), VALUES), min_size=1, max_size=2))
def test_p3_a_certificate_to_both_or_to_neither(changes: list[tuple[tuple[str, ...], Any]]) -> None:
    said = json.loads(LINE)
    for path, value in changes:
        place = said
        for key in path[:-1]:
            if isinstance(place, dict):
                place = place.get(key)
        if isinstance(place, dict):
            place[path[-1]] = copy.deepcopy(value)  # one value may be drawn twice, into itself
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    mine, yours = both(text.encode("utf-8", "surrogatepass") + b"\n")
    assert mine == yours, changes


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(LINE) - 1), st.integers(0, 255), st.sampled_from([0, 1]))
def test_p3_a_changed_or_missing_byte_is_seen_by_both_or_by_neither(
    at: int, byte: int, cut: int
) -> None:
    altered = LINE[:at] + (b"" if cut else bytes([byte])) + LINE[at + 1 :]
    mine, yours = both(altered)
    assert mine == yours, altered


def test_both_sides_agree_on_what_is_sealed_and_on_the_bounds() -> None:
    assert ours.NAMESPACE == theirs.NAMESPACE
    assert ours.LIFETIME_S == theirs.LIFETIME_S
    assert ours.CLOCK_SKEW_S == theirs.CLOCK_SKEW_S
    assert sealed_text.BYTES_AT_MOST == signatures.MAX_SEALED
    signature = "-----BEGIN SSH SIGNATURE-----\nU1NIU0lH\n-----END SSH SIGNATURE-----\n"
    sealed = sealed_text.seal(LINE, signature)
    assert signatures.unseal(sealed) == sealed_text.unseal(sealed) == (LINE, signature)
    for text in ("", sealed[:-1], sealed + "x", sealed + signature, LINE.decode(), signature):
        with pytest.raises(ValueError, match="one line"):
            sealed_text.unseal(text)
        with pytest.raises(signatures.NotSignedError, match="one line"):
            signatures.unseal(text)
