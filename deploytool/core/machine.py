"""A procedure as one table, state x event -> what follows, and the loop that runs it. Pure.

The table of a rollout, of an arming and of a stop is each a ``Table``. What is done in a state is
an *effect*, a value; the caller has it done and gives the event that came of it. A pair that isn't
in the table is an error, and leaves the state as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from deploytool.errors import IllegalEvent

S = TypeVar("S", bound=Enum)
"""A state: where the procedure is."""
E = TypeVar("E", bound=Enum)
"""An event: what happened."""
F = TypeVar("F", bound=Enum)
"""An effect: what is to be done next."""
N = TypeVar("N")
"""What follows: a ``Step``, or the next state itself where its effect goes without saying."""


@dataclass(frozen=True)
class Step(Generic[S, F]):
    """The state that follows, and what is to be done there; None at an end."""

    state: S
    effect: F | None


class Table(Mapping[tuple[S, E], N]):
    """The whole of a procedure: what follows each event in each state."""

    def __init__(self, rows: Mapping[tuple[S, E], N]) -> None:
        self._rows = dict(rows)

    def __getitem__(self, pair: tuple[S, E]) -> N:
        return self._rows[pair]

    def __iter__(self) -> Iterator[tuple[S, E]]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def advance(self, state: S, event: E) -> N:
        """What follows when ``event`` happens in ``state``.

        Raises:
            IllegalEvent: the table has no such row; nothing changes.
        """
        try:
            return self._rows[state, event]
        except KeyError:
            raise IllegalEvent(f"{event.name} can't happen in {state.name}") from None

    def mermaid(self, first: Mapping[str, N]) -> str:
        """The table as a Mermaid diagram: a line a row, in its own order.

        ``first``: where it begins, by what for.
        """
        lines = ["stateDiagram-v2"]
        for purpose, begins in first.items():
            lines.append(f"    [*] --> {_name(begins)}" + (f": {purpose}" if purpose else ""))
        lines += [
            f"    {state.name} --> {_name(then)}: {event.name}"
            for (state, event), then in self._rows.items()
        ]
        left = {state.name for state, _ in self._rows}
        ends = dict.fromkeys(_name(then) for then in self._rows.values())
        lines += [f"    {end} --> [*]" for end in ends if end not in left]
        return "\n".join(lines)


def _name(following: object) -> str:
    state = following.state if isinstance(following, Step) else following
    return state.name if isinstance(state, Enum) else str(state)


def run(
    table: Table[S, E, Step[S, F]],
    first: Step[S, F],
    enter: Callable[[S], None],
    perform: Callable[[S, F], E],
    *,
    steps_at_most: int,
) -> None:
    """Runs a procedure from ``first`` to one of its ends.

    Args:
        table: what follows what.
        first: where it begins.
        enter: told of each state that it comes to, the end included.
        perform: has an effect done, and gives what came of it.
        steps_at_most: the bound of the loop.

    Raises:
        IllegalEvent: a bug: the table lacks a row, or the procedure doesn't end.
    """
    step = first
    for _ in range(steps_at_most):
        enter(step.state)
        if step.effect is None:
            return
        step = table.advance(step.state, perform(step.state, step.effect))
    raise IllegalEvent(f"it did not end after {steps_at_most} steps")
