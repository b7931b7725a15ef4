"""JSON as text (RFC 8259), by the interpreter's own scanner and encoder. Pure.

Module ``json`` imports regular expressions and enumerations, which cost a host as much as all else
that starts Python. What it wraps is a part of every CPython; without that, ``json`` itself is used.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Pairs = Callable[[list[tuple[str, object]]], object]

_BLANKS = " \t\n\r"


class _Reading:
    """What the scanner asks of its decoder."""

    strict = True
    object_hook = None
    parse_float = float
    parse_int = int

    def __init__(self, pairs: Pairs, constant: Callable[[str], object]) -> None:
        self.object_pairs_hook = pairs
        self.parse_constant = constant


def loads(text: str, pairs: Pairs, constant: Callable[[str], object]) -> object:
    """The one value in a text.

    ``pairs`` makes an object of its members; ``constant`` is called for NaN and the infinities.

    Raises:
        ValueError: it is not JSON.
        RecursionError: it is too deep for the interpreter.
    """
    plain = text.strip(_BLANKS)
    try:
        from _json import make_scanner

        value, end = make_scanner(_Reading(pairs, constant))(plain, 0)  # type: ignore[arg-type] # by its attributes
    except StopIteration:
        raise ValueError("a value is missing") from None
    except (ImportError, SystemError):
        # Up to Python 3.12 the scanner can say what is wrong only where this was imported.
        import json

        return json.loads(plain, object_pairs_hook=pairs, parse_constant=constant)
    if end != len(plain):
        raise ValueError("it goes on after its end")
    return value


def dumps(value: object, *, sort: bool = False) -> str:
    """A value in ASCII and without blanks. ``sort``: members in the order of their names.

    Raises:
        ValueError: it holds a number that JSON does not have.
        TypeError: it holds something else.
    """
    try:
        from _json import encode_basestring_ascii, make_encoder
    except ImportError:
        import json

        return json.dumps(value, sort_keys=sort, separators=(",", ":"), allow_nan=False)
    skip_keys = allow_nan = False
    words = None, _unknown, encode_basestring_ascii, None, ":", ",", sort, skip_keys, allow_nan
    encode = make_encoder(*words)
    return "".join(encode(value, 0))


def _unknown(value: object) -> object:
    raise TypeError(f"{type(value).__name__} has no form in JSON")
