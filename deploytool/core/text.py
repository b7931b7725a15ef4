"""Text of others, made fit to be shown. Pure."""

from __future__ import annotations


def one_line(text: str) -> str:
    """``text`` as one line: with nothing in it that moves a cursor, or that can't be seen."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


def excerpt(text: str) -> str:
    """What a host printed, short and harmless enough for one line of a message."""
    clean = " ".join(one_line(text).split())
    return (clean[:157] + "...") if len(clean) > 160 else (clean or "nothing")
