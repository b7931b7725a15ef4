"""What is said of a host is what the last look at it showed, over all that a look can show (P6)."""

from __future__ import annotations

from itertools import product

import pytest

from deploytool.cli.starting import unfinished
from deploytool.parity.words import UNSEEN, Last, Trades, Words, words
from deploytool.stop.model import End, HostOutcome
from deploytool.stop.outcome import last_seen

KNOWN = (None, False, True)
STATES = (None, "ACTIVE", "REDUCING", "HALTED", "ODD")
LASTS = tuple(Last(*one) for one in product(STATES, KNOWN, KNOWN, KNOWN))


@pytest.mark.parametrize("last", LASTS, ids=repr)
def test_p6_no_look_is_told_as_more_than_it_showed(last: Last) -> None:
    said = words(last)
    if last.state in {"ACTIVE", "REDUCING"}:
        assert said.trades is Trades.YES, "what says that it trades is never said not to"
        assert said.unfinished == bool(last.latched or last.fenced)
        assert said.text.startswith("it trades")
    elif last.state == "HALTED" or (last.state is None and last.runs is False):
        assert said.trades is Trades.NO
    else:
        assert said.trades is Trades.UNKNOWN
        assert "may trade" in said.text, "what was not seen is not known"
    if last.fenced and said.trades is Trades.NO:
        assert "fenced" in said.text
    if last.fenced is not True and said.trades is Trades.NO:
        assert "it is fenced" not in said.text


def test_every_state_has_words_of_its_own() -> None:
    seen = {words(one).text for one in LASTS}
    assert len(seen) >= 10


@pytest.mark.parametrize("end", End)
@pytest.mark.parametrize(("latched", "fenced"), list(product(KNOWN, KNOWN)))
@pytest.mark.parametrize("may_send", [(), ("process 7",)], ids=["empty", "not"])
def test_p6_every_end_of_a_stop_is_told_by_its_last_look(
    end: End, latched: bool | None, fenced: bool | None, may_send: tuple[str, ...]
) -> None:
    ended = HostOutcome("a", end, 1.0, may_send=may_send, latched=latched, fenced=fenced)
    said = words(last_seen(ended))
    assert (said.trades is Trades.NO) == (end is End.HALTED or (end is End.DEAD and not may_send))
    if end in {End.HALTED, End.DEAD}:
        assert ("fenced" in said.text and "no longer" not in said.text) <= (fenced is True)
        assert ("latch" in said.text and "its own" not in said.text) <= (latched is True)


WORDS = tuple({words(one).text: words(one) for one in LASTS}.values())
OUTCOMES = ("", "it was refused")


@pytest.mark.parametrize(
    ("one", "other"), list(product(product(WORDS, OUTCOMES), repeat=2)), ids=lambda _two: ""
)
def test_p6_a_start_says_of_no_host_that_trades_that_it_does_not(
    one: tuple[Words, str], other: tuple[Words, str]
) -> None:
    """It was reproduced: "does NOT trade again" of a host that had sent an order 0.17 s before."""
    said, outcomes = {"a": one[0], "b": other[0]}, {"a": one[1], "b": other[1]}
    error = unfinished(outcomes, said, "my fleet.yaml")
    good = [h for h in said if said[h].trades is Trades.YES and not outcomes[h]]
    good = [host for host in good if not said[host].unfinished]
    if error is None:
        assert good == ["a", "b"]
        return
    assert good != ["a", "b"]
    assert error.exit_code == 5
    for host, its in said.items():
        parts = [part for part in error.what.split(". ") if host in part.rpartition(": ")[2]]
        assert len(parts) == (host not in good), error.what
        for part in parts:
            assert ("do NOT trade" in part) == (its.trades is Trades.NO)
            assert ("MAY trade" in part) == (its.trades is Trades.UNKNOWN)
        told = [line for line in error.details if line.startswith(f"{host}: ")]
        assert told == ([] if host in good else told)
    if any(w.trades is Trades.YES and w.unfinished for w in said.values()):
        assert "deploytool stop -i 'my fleet.yaml' --host" in error.now


def test_p6_what_was_never_seen_is_said_to_be_so() -> None:
    assert words(UNSEEN).text == "it was not seen: it may trade"
