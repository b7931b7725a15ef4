"""Frozen values with named fields, checked when they are made and when they are read. Pure.

They are what ``dataclasses`` would give, with a check of every field, and without what importing
that module costs on a host. A field's annotation is its check::

    class Lock(Record):
        token: Count
        holder: Word
        since: Time = 0
        before: Digest | None = None
        files: tuple[FileDigest, ...] = ()

Known are the kinds of ``words``, other records, ``X | None`` and ``tuple[X, ...]``.
"""

from __future__ import annotations

from deploytool.agent.words import CHECKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, ClassVar, TypeVar, dataclass_transform

    Checked = TypeVar("Checked", bound="Record")
    Kind = tuple[str, bool, bool]
else:

    def dataclass_transform(**_: object) -> object:
        """Tells a type checker alone that fields are arguments."""
        return lambda made: made


ITEMS_AT_MOST = 65536
"""More items than a list of a whole host's processes may have is no answer."""


class Malformed(ValueError):
    """A value is not what its field says. ``where`` is the path to it, such as ``lock.token``."""

    def __init__(self, where: str, expected: str, found: object) -> None:
        super().__init__(f"{where}: expected {expected}, found {_shown(found)}")
        self.where = where


def _shown(found: object) -> str:
    """What was found, short: it may be anything that a host or a stranger sent."""
    text = ascii(found)
    return text if len(text) <= 60 else text[:57] + "..."


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Record:
    """The base of every value that crosses between a host and the operator's side.

    Raises:
        Malformed: a field's value is not of its kind.
        TypeError: a field without a default was left out, or there is no such field (a bug).
    """

    __slots__ = ("_values",)
    _values: dict[str, Any]
    fields: ClassVar[Mapping[str, Kind]] = {}
    """Of each field: its kind, whether it may be None, and whether it is a list of that kind."""
    defaults: ClassVar[Mapping[str, object]] = {}

    def __init_subclass__(cls) -> None:
        """Reads the fields off the annotations."""
        fields, defaults = dict(cls.fields), dict(cls.defaults)
        for name, annotation in cls.__dict__.get("__annotations__", {}).items():
            if annotation.startswith("ClassVar"):
                continue
            fields[name] = _kind(annotation)
            if name in cls.__dict__:
                defaults[name] = cls.__dict__[name]
                delattr(cls, name)
        cls.fields, cls.defaults = fields, defaults
        if cls.__name__ in _RECORDS:
            raise TypeError(f"there are two records of the name {cls.__name__}")
        _RECORDS[cls.__name__] = cls

    def __init__(self, **values: Any) -> None:
        """Takes the fields by name."""
        made = {}
        for name, kind in self.fields.items():
            if name in values:
                value = values.pop(name)
                _check(name, kind, value)
            elif name in self.defaults:
                value = self.defaults[name]
            else:
                raise TypeError(f"{type(self).__name__} lacks {name}")
            made[name] = value
        if values:
            raise TypeError(f"{type(self).__name__} has no {', '.join(sorted(values))}")
        object.__setattr__(self, "_values", made)

    def __getattr__(self, name: str) -> Any:
        """A field's value."""
        try:
            return object.__getattribute__(self, "_values")[name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has no {name}") from None

    def __setattr__(self, name: str, value: object) -> None:
        """Refuses: a record is frozen."""
        raise AttributeError(f"{type(self).__name__} is frozen: {name} can't be set")

    def __eq__(self, other: object) -> bool:
        """Whether it is of the same kind, field by field."""
        return type(self) is type(other) and self._values == other._values

    def __hash__(self) -> int:
        """Agrees with ``==``."""
        return hash((type(self).__name__, tuple(self._values.values())))

    def __repr__(self) -> str:
        """As it could be made again."""
        shown = ", ".join(f"{name}={value!r}" for name, value in self._values.items())
        return f"{type(self).__name__}({shown})"

    def but(self: Checked, **values: object) -> Checked:
        """The same with some fields changed."""
        return type(self)(**{**self._values, **values})

    def to_json(self) -> dict[str, object]:
        """As JSON has it. A field that has its default is left out."""
        return {
            name: _plain(value)
            for name, value in self._values.items()
            if name not in self.defaults or value != self.defaults[name]
        }

    @classmethod
    def from_json(
        cls: type[Checked], value: object, where: str = "", *, strict: bool = False
    ) -> Checked:
        """Reads what ``to_json`` made. ``strict``: a field that is not known is an error.

        Raises:
            Malformed: it is something else.
        """
        if not isinstance(value, dict):
            raise Malformed(where or cls.__name__, "an object", value)
        prefix = f"{where}." if where else ""
        values = {}
        for name, kind in cls.fields.items():
            if name in value:
                values[name] = _read(prefix + name, kind, value[name], strict=strict)
            elif name not in cls.defaults:
                raise Malformed(prefix + name, kind[0], None)
        unknown = sorted(str(name) for name in value if name not in cls.fields)
        if strict and unknown:
            raise Malformed(where or cls.__name__, "known fields", unknown[0])
        return cls(**values)


_RECORDS: dict[str, type[Record]] = {}


def _kind(annotation: str) -> Kind:
    """``"tuple[Run, ...] | None"`` -> ("Run", True, True)."""
    name, _, rest = annotation.partition(" | ")
    many = name.startswith("tuple[") and name.endswith(", ...]")
    return (name[6:-6] if many else name), rest == "None", many


def _check(where: str, kind: Kind, value: object) -> None:
    name, optional, many = kind
    if value is None and optional:
        return
    if many:
        if type(value) is not tuple or len(value) > ITEMS_AT_MOST:
            raise Malformed(where, f"a list of {name}", value)
        for item in value:
            _check(where, (name, False, False), item)
    elif name in CHECKS:
        if not CHECKS[name](value):
            raise Malformed(where, name, value)
    elif type(value) is not _RECORDS[name]:
        raise Malformed(where, name, value)


def _read(where: str, kind: Kind, value: object, *, strict: bool) -> object:
    """A JSON value as a field's: lists become tuples, objects become records."""
    name, optional, many = kind
    if value is None and optional:
        return None
    if many:
        if not isinstance(value, list):
            raise Malformed(where, f"a list of {name}", value)
        one = (name, False, False)
        return tuple(
            _read(f"{where}[{at}]", one, item, strict=strict) for at, item in enumerate(value)
        )
    if name in _RECORDS:
        return _RECORDS[name].from_json(value, where, strict=strict)
    _check(where, kind, value)
    return value


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.to_json() if isinstance(value, Record) else value
