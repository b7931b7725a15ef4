"""Whose key signs: the operator's, found among those that the fleet's hosts believe."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from deploytool.errors import InputError
from deploytool.fleet.paths import expand_home, home
from deploytool.fleet.signers import Signer, parse_signers
from deploytool.fleet.signing import sign

Signing = Callable[[bytes], str]
"""Makes the armoured signature over some bytes."""
_AGENT_S = 5.0
_MEANS = "Nothing was touched: no host was asked for anything."


def signs_nothing(_content: bytes) -> str:
    """Stands for a key where there is nothing to sign, as when disarming."""
    raise AssertionError("nothing is to be signed")


@dataclass(frozen=True)
class Key:
    """A key that may sign for the fleet: whose it is, and the file that names it."""

    name: str
    file: Path

    def signing(self, namespace: str) -> Signing:
        """Signs bytes in this namespace; see ``fleet.signing.sign`` for what it raises."""
        return lambda content: sign(content, self.file, namespace)


def find_key(signers: str | None, chosen: Path | None, scratch: Path) -> Key:
    """The operator's key: the ``chosen`` one, else the first in the agent or ``~/.ssh`` that may.

    ``signers`` is the signers file's text. A key that only the agent has gets a file in
    ``scratch`` with its public half, by which ``ssh-keygen`` asks for it.

    Raises:
        InputError: there is none, or the chosen one may not sign for this fleet.
    """
    if signers is None:
        raise InputError(
            "The inventory names no 'signers' file: no one may sign for its hosts.",
            _MEANS,
            "deploytool host signers add NAME KEY.pub -i INVENTORY; see docs/flags.md",
        )
    known = {signer.key: signer for signer in parse_signers(signers, "the signers file")}
    if chosen is not None:
        return _chosen(Path(expand_home(str(chosen))), known)
    for key, file in _offered():
        if key in known and file is not None:
            return Key(known[key].name, file)
        if key in known:
            by_agent = scratch / "agent.pub"
            by_agent.write_text(f"{key}\n", encoding="ascii")
            return Key(known[key].name, by_agent)
    names = ", ".join(signer.name for signer in known.values()) or "no one"
    raise InputError(
        "None of your keys (in the agent, or ~/.ssh) may sign for this fleet.",
        _MEANS,
        f"Name one with --key FILE, or load it: ssh-add FILE. Who may sign: {names}",
    )


def _chosen(file: Path, known: dict[str, Signer]) -> Key:
    public = _public_half(file)
    if public not in known:
        names = ", ".join(signer.name for signer in known.values()) or "no one"
        raise InputError(
            f"{file} is not the key of a signer of this fleet.",
            _MEANS,
            f"Name the key of one of them: {names}. To let this one in: "
            f"deploytool host signers add NAME {file.with_suffix('.pub')} -i INVENTORY",
        )
    return Key(known[public].name, file)


def _public_half(file: Path) -> str:
    """The type and text of a key by its public file, which stands beside a private one."""
    beside = file if file.suffix == ".pub" else Path(f"{file}.pub")
    try:
        words = beside.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"The public half of {file} can't be read: {error}",
            _MEANS,
            f"Write it beside it: ssh-keygen -y -f {file} > {beside}",
        ) from error
    return " ".join(words[:2])


def _offered() -> Iterator[tuple[str, Path | None]]:
    """The operator's keys, public halves: those that need no passphrase first."""
    for line in _agent():
        yield " ".join(line.split()[:2]), None
    for public in sorted(Path(home() or "/", ".ssh").glob("*.pub")):
        private = public.with_suffix("")
        if private.is_file():
            yield _public_half(private), private


def _agent() -> list[str]:
    try:
        done = subprocess.run(
            ["ssh-add", "-L"],
            capture_output=True, text=True, timeout=_AGENT_S, check=False,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return []  # there is no agent that answers: the next place is looked at
    return done.stdout.splitlines() if done.returncode == 0 else []
