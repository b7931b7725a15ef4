"""Fills in the argument lists of the inventory. Pure."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploytool.agent.settings import Command


def fill(command: Command, given: Mapping[str, str]) -> list[str]:
    """The argument list, with the words in braces replaced by what is given; once, in one pass.

    Doubled braces become single ones, and what is filled in is not looked at again.

    Raises:
        ValueError: the settings name a word that is not given, or have a brace alone: a bug of
            what rendered them.
    """
    return [_fill(text, given) for text in command.argv]


def _fill(text: str, given: Mapping[str, str]) -> str:
    done, at = [], 0
    while at < len(text):
        here = text[at]
        if text[at : at + 2] in ("{{", "}}"):
            done.append(here)
            at += 2
        elif here == "{":
            end = text.find("}", at)
            word = text[at + 1 : end]
            if end < 0 or word not in given:
                raise ValueError(f"the settings have {text[at:]!r} in {text!r}")
            done.append(given[word])
            at = end + 1
        elif here == "}":
            raise ValueError(f"the settings have a brace alone in {text!r}")
        else:
            done.append(here)
            at += 1
    return "".join(done)
