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
    from collections.abc import Callable, Mapping
    from typing import Any, ClassVar, TypeVar, dataclass_transform

    Checked = TypeVar("Checked", bound="Record")
    Kind = tuple[str, bool, bool]
    Passes = Callable[[object], bool]
    Planned = tuple[str, Passes, "Kind | None"]
    """A field's name, its check, and its kind where JSON has it in another form."""
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

    fields: ClassVar[Mapping[str, Kind]] = {}
    """Of each field: its kind, whether it may be None, and whether it is a list of that kind."""
    defaults: ClassVar[Mapping[str, object]] = {}
    _plan: ClassVar[tuple[Planned, ...]] = ()
    """Its fields; made when the first one is."""

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
        cls.fields, cls.defaults, cls._plan = fields, defaults, ()
        if cls.__name__ in _RECORDS:
            raise TypeError(f"there are two records of the name {cls.__name__}")
        _RECORDS[cls.__name__] = cls

    def __init__(self, **values: Any) -> None:
        """Takes the fields by name."""
        defaults, made = self.defaults, {}
        for name, passes, _ in self._plan or self._planned():
            if name in values:
                made[name] = value = values[name]
                if not passes(value):
                    raise _malformed(name, self.fields[name], value)
            elif name in defaults:
                made[name] = defaults[name]
            else:
                raise TypeError(f"{type(self).__name__} lacks {name}")
        if len(values) > len(made) or not values.keys() <= made.keys():
            unknown = ", ".join(sorted(values.keys() - made.keys()))
            raise TypeError(f"{type(self).__name__} has no {unknown}")
        self.__dict__.update(made)

    @classmethod
    def _planned(cls) -> tuple[Planned, ...]:
        cls._plan = tuple(
            (name, _passing(kind), kind if kind[2] or kind[0] in _RECORDS else None)
            for name, kind in cls.fields.items()
        )
        return cls._plan

    def __setattr__(self, name: str, value: object) -> None:
        """Refuses: a record is frozen."""
        raise AttributeError(f"{type(self).__name__} is frozen: {name} can't be set")

    def __eq__(self, other: object) -> bool:
        """Whether it is of the same kind, field by field."""
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        """Agrees with ``==``."""
        return hash((type(self).__name__, tuple(self.__dict__.values())))

    def __repr__(self) -> str:
        """As it could be made again."""
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__dict__.items())
        return f"{type(self).__name__}({shown})"

    def but(self: Checked, **values: object) -> Checked:
        """The same with some fields changed."""
        return type(self)(**{**self.__dict__, **values})

    def to_json(self) -> dict[str, object]:
        """As JSON has it. A field that has its default is left out."""
        made: dict[str, object] = {}
        for name, _, kind in self._plan or self._planned():
            value = self.__dict__[name]
            if name not in self.defaults or value != self.defaults[name]:
                made[name] = value if kind is None or value is None else _plain(kind, value)
        return made

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
        made: dict[str, object] = {}
        prefix = f"{where}." if where else ""
        for name, passes, kind in cls._plan or cls._planned():
            if name in value:
                found = value[name]
                if kind is not None and not (found is None and kind[1]):
                    found = _read(kind, prefix + name, found, strict=strict)
                if not passes(found):
                    raise _malformed(prefix + name, cls.fields[name], found)
                made[name] = found
            elif name in cls.defaults:
                made[name] = cls.defaults[name]
            else:
                raise Malformed(prefix + name, cls.fields[name][0], None)
        if strict and not value.keys() <= made.keys():
            unknown = sorted(str(name) for name in value if name not in made)
            raise Malformed(where or cls.__name__, "known fields", unknown[0])
        read = cls.__new__(cls)
        read.__dict__.update(made)
        return read


_RECORDS: dict[str, type[Record]] = {}


def _kind(annotation: str) -> Kind:
    """``"tuple[Run, ...] | None"`` -> ("Run", True, True)."""
    name, _, rest = annotation.partition(" | ")
    many = name.startswith("tuple[") and name.endswith(", ...]")
    return (name[6:-6] if many else name), rest == "None", many


def _passing(kind: Kind) -> Passes:
    """The check of a kind, made of C's loops where it can be: every value on a host is checked."""
    name, optional, many = kind
    if name in CHECKS:
        one = CHECKS[name]
    else:
        record = _RECORDS[name]
        one = lambda value: type(value) is record  # noqa: E731 # as in CHECKS
    if many:
        each = one
        one = lambda value: (  # noqa: E731
            type(value) is tuple and len(value) <= ITEMS_AT_MOST and all(map(each, value))
        )
    return (lambda value: value is None or one(value)) if optional else one


def _malformed(where: str, kind: Kind, value: object) -> Malformed:
    """What to raise about a value that does not pass."""
    name, _, many = kind
    if many and type(value) is tuple and len(value) <= ITEMS_AT_MOST:
        passes = _passing((name, False, False))
        return Malformed(where, name, next(item for item in value if not passes(item)))
    return Malformed(where, f"a list of {name}" if many else name, value)


def _read(kind: Kind, where: str, value: object, *, strict: bool) -> object:
    """A JSON value as a field's: lists become tuples, objects become records."""
    name, _, many = kind
    record = _RECORDS.get(name)
    if not many:
        return value if record is None else record.from_json(value, where, strict=strict)
    if not isinstance(value, list):
        raise Malformed(where, f"a list of {name}", value)
    if record is None:
        return tuple(value)
    return tuple(
        record.from_json(item, f"{where}[{at}]", strict=strict) for at, item in enumerate(value)
    )


def _plain(kind: Kind, value: Any) -> object:
    """A list or a record as JSON has it."""
    name, _, many = kind
    if not many:
        return value.to_json()
    return [item.to_json() for item in value] if name in _RECORDS else list(value)
