"""``deploytool stop`` once it can't be warm alone: the cold way, the witness, the answer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploytool.errors import InputError
from deploytool.stop.answer import Answer, climbed_from, make_row
from deploytool.stop.card import Card, Target, read_card
from deploytool.stop.ladder import Climb, climb_all
from deploytool.stop.model import Climbed, Order, Renewal, Witnessed
from deploytool.stop.places import owned, stem
from deploytool.stop.rules import quiet, stopped
from deploytool.stop.warm import Warm
from deploytool.stop.witness import ask_witness

STOP_S = 60.0
"""From the key press: whoever has not come to an end by then is not shown to have stopped."""
WARM_S = 20.0
"""So long a host that has begun to answer the warm way is left to it."""
SILENCE_S = 3.0
"""So long the witness is asked again, where it has not seen the silence yet."""
_POLL_S = 0.1


@dataclass(frozen=True)
class Pressed:
    """What was typed. ``hosts`` empty: all of them."""

    inventory: str
    hosts: tuple[str, ...]
    order: Order


def stop(
    pressed: Pressed,
    warm: Warm | None,
    trouble: str,
    said: Callable[[str], None] = lambda _line: None,
) -> Answer:
    """Stops what is to be stopped, and asks the witness; ``said`` gets a line as each host ends.

    Raises:
        InputError: the inventory is of no use, or a host is not in it; nothing more was stopped.
    """
    order = pressed.order
    climbed: dict[str, Climbed] = {}

    def ended(one: Climbed) -> None:
        if one.host not in climbed or (stopped(one) and not stopped(climbed[one.host])):
            climbed[one.host] = one
            text = one.steps[-1].text if one.steps else ""
            said(f"{one.host}: {one.end.value} after {one.at_s:.2f} s: {text}")

    def poll(patience_s: float) -> bool:
        if warm is not None:
            warm.listen(patience_s)
            for document in list(warm.climbed.values()):
                one = climbed_from(document)
                if climbed.get(one.host) != one:
                    ended(one)
        return False

    poll(0.001)
    card = read_card(Path(pressed.inventory))
    targets = _chosen(card, pressed)
    cold = [t for t in targets if t.host not in climbed and not (warm and t.host in warm.heard)]
    climb_all(
        cold,
        order,
        ends=time.monotonic() + STOP_S,
        done=lambda one: ended(one.climbed()),
        also=poll,
    )
    _wait_for_warm(warm, poll, [t for t in targets if t.host not in climbed], order, ended)
    heard = _witness(card, order, climbed)
    renewals, renewing = _renewals(pressed.inventory, warm, trouble)
    now = time.time()
    rows = tuple(
        make_row(
            climbed[t.host],
            order,
            heard,
            (card.lease_s, renewals.get(t.host), renewing),
            now,
        )
        for t in targets
    )
    witness = heard if isinstance(heard, str) else ""
    said_of_warm = tuple(text for text in (trouble, warm.trouble if warm else "") if text)
    return Answer(order, rows, witness, said_of_warm, card.doubt)


def _chosen(card: Card, pressed: Pressed) -> list[Target]:
    unknown = sorted(set(pressed.hosts) - set(card.names))
    if unknown:
        raise InputError(
            f"{', '.join(unknown)}: not in the inventory.",
            "NOTHING WAS STOPPED.",
            f"The hosts of {card.fleet} are: {', '.join(card.names)}",
        )
    return [t for t in card.targets if not pressed.hosts or t.host in pressed.hosts]


def _wait_for_warm(
    warm: Warm | None,
    poll: Callable[[float], bool],
    left: list[Target],
    order: Order,
    ended: Callable[[Climbed], None],
) -> None:
    """Leaves hosts that have begun to answer to the warm way, and then goes cold for them too."""
    if not left:
        return
    ends = order.pressed + WARM_S
    names = {target.host for target in left}
    while warm is not None and not warm.over and names - set(warm.climbed) and time.time() < ends:
        poll(_POLL_S)
    poll(0.001)
    again = [t for t in left if warm is None or t.host not in warm.climbed]

    def done(one: Climb) -> None:
        ended(one.climbed())

    climb_all(again, order, ends=time.monotonic() + STOP_S, done=done)


def _witness(card: Card, order: Order, climbed: Mapping[str, Climbed]) -> Witnessed | str:
    """Asks until every host that stopped was seen to be silent, or time is up."""
    ends = time.monotonic() + SILENCE_S
    while True:
        heard = ask_witness(card)
        if isinstance(heard, str) and not card.silence:
            return heard
        shown = isinstance(heard, Witnessed) and all(
            quiet(heard, host, order.pressed + one.at_s)
            for host, one in climbed.items()
            if stopped(one) and host in heard.last_child
        )
        if shown or time.monotonic() >= ends:
            return heard
        time.sleep(_POLL_S)


def _renewals(inventory: str, warm: Warm | None, trouble: str) -> tuple[dict[str, Renewal], bool]:
    """What is known of the last renewals, and whether they may go on all the same."""
    told = warm is not None and warm.answered
    said: Mapping[str, Any] = warm.renewals if warm and told else read_record(inventory)
    found = {}
    for host, one in said.items():
        try:
            found[host] = Renewal(float(one["wall"]), float(one["lease_s"]))
        except (KeyError, TypeError, ValueError):
            continue  # what can't be read is the worst case, below
    return found, bool(trouble) and warm is None


def read_record(inventory: str) -> dict[str, Any]:
    """What a watch on this machine wrote down of its renewals; empty where nothing is of use.

    A record from before the last boot says nothing: this machine's clock may have been set since.
    """
    try:
        path = f"{stem(inventory)}.json"
        if not owned(path):
            return {}
        document = json.loads(Path(path).read_bytes())
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        renewals = document["renewals"] if document["boot"] == boot else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return renewals if isinstance(renewals, dict) else {}
