"""Read `router.json` strictly: every problem is named at once, nothing is guessed."""

import json
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from router.limits import Limits, Thresholds

MAX_BYTES = 4 * 1024 * 1024
MAX_NUMBER = 2**62
ADDRESS = r"[0-9A-Za-z.\-:\[\]]+:[0-9]{1,5}"
T = TypeVar("T", Limits, Thresholds)


class ConfigError(ValueError):
    """The configuration can't be used; the message lists why."""


@dataclass(frozen=True, slots=True)
class VenueConfig:
    """One market."""

    name: str
    host: str
    port: int
    retail: bool
    password: str


@dataclass(frozen=True, slots=True)
class SymbolConfig:
    """One security that may be traded."""

    name: str
    reference_price: int
    collar_bp: int
    max_position: int


@dataclass(frozen=True, slots=True)
class Config:
    """All that the router is told."""

    firm: str
    hosts: frozenset[str]
    login: str
    code: str
    clients: dict[str, str]
    venues: tuple[VenueConfig, ...]
    symbols: tuple[SymbolConfig, ...]
    slice_qty: int
    max_slices: int
    limits: Limits
    thresholds: Thresholds
    drain_s: int
    commit_s: int


class _Reader:
    """Collects problems; each method gives something usable so that reading goes on."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def mapping(
        self, value: object, where: str, required: str, optional: str = ""
    ) -> dict[str, Any]:
        """Check the keys of a mapping; both lists are separated by blanks."""
        if not isinstance(value, dict):
            self.problems.append(f"{where}: expected an object")
            return {}
        needs, may = set(required.split()), set(optional.split())
        absent = sorted(needs - set(value))
        unknown = sorted(set(value) - needs - may)
        self.problems.extend(f"{where}: {key!r} is missing" for key in absent)
        self.problems.extend(f"{where}: unknown key {key!r}" for key in unknown)
        return value

    def number(self, value: object, where: str, low: int = 0, high: int = MAX_NUMBER) -> int:
        """Check a whole number; true and 1.0 are not numbers."""
        if type(value) is not int or not low <= value <= high:
            self.problems.append(
                f"{where}: expected a whole number from {low} to {high}, found {value!r}"
            )
            return low
        return value

    def text(self, value: object, where: str, pattern: str) -> str:
        """Check a text."""
        if not isinstance(value, str) or not re.fullmatch(pattern, value, re.ASCII):
            self.problems.append(f"{where}: expected text like {pattern}, found {value!r}")
            return ""
        return value

    def numbers(self, kind: type[T], value: object, where: str) -> T:
        """Read a group of limits; absent ones stay None and block later."""
        names = " ".join(field.name for field in fields(kind))
        found = self.mapping(value, where, "", names)
        allowed = names.split()
        return kind(**{k: self.number(v, f"{where}.{k}") for k, v in found.items() if k in allowed})


def _venue(read: _Reader, value: object, where: str) -> VenueConfig:
    found = read.mapping(value, where, "name address", "retail password")
    address = read.text(found.get("address"), f"{where}.address", ADDRESS)
    host, _, port = address.rpartition(":")
    if not isinstance(found.get("retail", False), bool):
        read.problems.append(f"{where}.retail: expected true or false")
    return VenueConfig(
        name=read.text(found.get("name"), f"{where}.name", r"[A-Z0-9_]{1,8}"),
        host=host.strip("[]"),
        port=read.number(int(port or 0), f"{where}.address: port", 1, 65535),
        retail=found.get("retail") is True,
        password=read.text(found.get("password", ""), f"{where}.password", r"[!-~]{0,10}"),
    )


def _symbol(read: _Reader, name: str, value: object) -> SymbolConfig:
    where = f"symbols.{name}"
    found = read.mapping(value, where, "reference_price collar_bp max_position")
    return SymbolConfig(
        name=read.text(name, "symbols: name", r"[A-Z][A-Z.]{0,7}"),
        reference_price=read.number(
            found.get("reference_price"), f"{where}.reference_price", 1, 1_999_999_900
        ),
        collar_bp=read.number(found.get("collar_bp"), f"{where}.collar_bp", 0, 10_000),
        max_position=read.number(found.get("max_position"), f"{where}.max_position"),
    )


def _hosts(read: _Reader, value: object, host: str) -> tuple[str, str]:
    seen: dict[str, str] = {}
    ours = ("", "")
    for name, entry in (value if isinstance(value, dict) else {}).items():
        found = read.mapping(entry, f"hosts.{name}", "login code")
        login = read.text(found.get("login"), f"hosts.{name}.login", r"[A-Z0-9]{1,6}")
        code = read.text(found.get("code"), f"hosts.{name}.code", r"[A-Z0-9]{2}")
        for kind in (f"login {login}", f"code {code}"):
            if kind in seen:
                read.problems.append(f"hosts.{name}: {kind} is also that of {seen[kind]}")
            seen[kind] = name
        if name == host:
            ours = (login, code)
    if not ours[0]:
        read.problems.append(f"hosts: {host!r} (given with --host) is not there")
    return ours


def _sequence(read: _Reader, value: object, where: str) -> list[object]:
    if not isinstance(value, list) or not value:
        read.problems.append(f"{where}: expected a list with at least one entry")
        return []
    return value


def parse(document: object, host: str) -> Config:
    """Make a Config for one host, or raise with every problem."""
    read = _Reader()
    top = read.mapping(
        document,
        "router.json",
        "schema firm hosts clients venues symbols strategy limits breakers drain_s flags",
    )
    if top.get("schema") != 1:
        read.problems.append(f"schema: expected 1, found {top.get('schema')!r}")
    login, code = _hosts(read, top.get("hosts"), host)
    clients = top.get("clients") if isinstance(top.get("clients"), dict) else {}
    symbols = top.get("symbols") if isinstance(top.get("symbols"), dict) else {}
    strategy = read.mapping(top.get("strategy"), "strategy", "slice_qty max_slices")
    flags = read.mapping(top.get("flags"), "flags", "commit_s")
    venues = tuple(
        _venue(read, value, f"venues[{index}]")
        for index, value in enumerate(_sequence(read, top.get("venues"), "venues"))
    )
    if len({venue.name for venue in venues}) != len(venues):
        read.problems.append("venues: two have the same name")
    config = Config(
        firm=read.text(top.get("firm"), "firm", r"[A-Z0-9]{1,4}"),
        hosts=frozenset(top["hosts"]) if isinstance(top.get("hosts"), dict) else frozenset(),
        login=login,
        code=code,
        clients={
            read.text(user, "clients: user", r"[A-Z0-9]{1,6}"): read.text(
                secret, f"clients.{user}", r"[0-9a-f]{64}"
            )
            for user, secret in (clients or {}).items()
        },
        venues=venues,
        symbols=tuple(_symbol(read, str(k), v) for k, v in (symbols or {}).items()),
        slice_qty=read.number(strategy.get("slice_qty"), "strategy.slice_qty", 1, 999_999),
        max_slices=read.number(strategy.get("max_slices"), "strategy.max_slices", 1, 1_000),
        limits=read.numbers(Limits, top.get("limits"), "limits"),
        thresholds=read.numbers(Thresholds, top.get("breakers"), "breakers"),
        drain_s=read.number(top.get("drain_s"), "drain_s", 1, 600),
        commit_s=read.number(flags.get("commit_s"), "flags.commit_s", 1, 60),
    )
    if read.problems:
        raise ConfigError("; ".join(read.problems))
    return config


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ConfigError(f"a key is given twice among {sorted(key for key, _ in pairs)}")
    return found


def read(path: Path, host: str) -> Config:
    """Read and check the file."""
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES} bytes")
    try:
        return parse(json.loads(data, object_pairs_hook=_once), host)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not JSON: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
