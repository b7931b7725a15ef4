"""Who we are to a host: the keys that OpenSSH would offer, from files and from an agent.

Paramiko knows one agent (``SSH_AUTH_SOCK``), offers all of its keys or none, and takes none from
it for a file that needs a passphrase. OpenSSH's ``IdentitiesOnly`` and ``IdentityAgent`` do more.
It also offers a certificate in place of its key, where OpenSSH offers both. A host lets us try only
so many keys, so the order is OpenSSH's, too (sshconnect2.c, ``pubkey_prepare``): certificates that
are named, keys of the agent that a file names, its other keys, and then what only files hold.
"""

from __future__ import annotations

import base64
import binascii
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHCertificate,
    load_ssh_public_identity,
)
from paramiko.agent import AgentKey, AgentSSH
from paramiko.pkey import PublicBlob
from paramiko.ssh_exception import AuthenticationException, BadAuthenticationType, SSHException

from deploytool.fleet.sshconfig import Route

_NEW_FORMAT = b"openssh-key-v1\0"
_KEY_BYTES_AT_MOST = 64 * 1024
_LISTING_S = 2.0
"""How long an agent may take to list its keys: it is a process of this machine."""


class KeyAgent(AgentSSH):
    """The SSH agent behind a socket.

    ``deadline_s``: how long it may take over a signature, for which it may ask a person.

    Raises:
        OSError: nothing answers there in time.
        SSHException: what answers is not an agent.
    """

    def __init__(self, path: str, deadline_s: float) -> None:
        super().__init__()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(min(_LISTING_S, deadline_s))
            self._socket.connect(path)
            self._connect(self._socket)  # type: ignore[attr-defined] # left out of the stubs
            self._socket.settimeout(deadline_s)
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        """Hangs up."""
        self._socket.close()


class Credentials:
    """Offers a host the keys of a route, one after the other, until it is content.

    It stands where paramiko calls the ``authenticate`` of an ``AuthStrategy``.
    """

    def __init__(self, way: Route, deadline_s: float) -> None:
        self._way = way
        self._deadline_s = deadline_s
        self._agent: KeyAgent | None = None
        self._asked = False
        self._unused: list[str] = []
        """Why some key was not offered: what a person wants to read when none was accepted."""

    def authenticate(self, transport: paramiko.Transport) -> list[str]:
        """Logs in.

        Raises:
            AuthenticationException: no key is accepted, or there was none to offer.
        """
        try:
            return self._offer(transport)
        finally:
            if self._agent is not None:
                self._agent.close()

    def _held(self) -> tuple[paramiko.PKey, ...]:
        """What the agent holds. It is asked only where its keys are needed, and once."""
        if self._agent is None and self._way.agent is not None and not self._asked:
            self._asked = True
            try:
                self._agent = KeyAgent(self._way.agent, self._deadline_s)
            except (OSError, SSHException) as error:
                self._unused.append(f"the agent at {self._way.agent} does not answer: {error}")
        keys = self._agent.get_keys() if self._agent is not None else ()
        for key in keys:
            if "-cert-" in key.get_name():  # paramiko would say that it is one, and send the key
                key.public_blob = PublicBlob(key.get_name(), key.blob)  # type: ignore[assignment] # the stubs know None
        return keys

    def _offer(self, transport: paramiko.Transport) -> list[str]:
        offered, further = 0, list[str]()
        for key in self._keys():
            offered += 1
            try:
                further = transport.auth_publickey(self._way.user, key)
            except BadAuthenticationType as error:
                allowed = ", ".join(error.allowed_types)
                raise AuthenticationException(f"it takes no keys, only {allowed}") from error
            except AuthenticationException:
                pass  # the next one; what was tried is told when there is none left
            except (SSHException, EOFError) as error:
                raise AuthenticationException(
                    f"it hung up at key {offered} ({str(error) or 'closed'}); where an agent holds "
                    "many keys, name the one with IdentityFile and IdentitiesOnly"
                ) from error
            if transport.is_authenticated():
                return []
        keys = "1 key" if offered == 1 else f"{offered} keys"
        text = f"it accepted none of {keys}" if offered else "there is no key to offer"
        if further:
            text = f"it wants more than a key ({', '.join(further)}), which is not supported"
        raise AuthenticationException("; ".join((text, *self._unused)))

    def _keys(self) -> Iterator[paramiko.PKey]:
        files = tuple(Path(file) for file in self._way.identity_files)
        halves = {path: public_halves(path) for path in files}
        named = set[bytes]().union(*halves.values())
        for file in self._way.certificate_files:
            yield from self._certified(Path(file), files)
        held = [key for key in self._held() if key.asbytes() in named]
        yield from held
        if not self._way.identities_only:
            yield from (key for key in self._held() if key.asbytes() not in named)
        offered = {key.asbytes() for key in held}
        for path in files:
            if not halves[path] & offered:
                if (own := from_file(path)) is not None:
                    yield own
                else:
                    why = "needs a passphrase, or is not a key" if path.is_file() else "is missing"
                    self._unused.append(f"{path} {why}, and no agent holds it")
            if (beside := path.with_name(f"{path.name}-cert.pub")).is_file():
                yield from self._certified(beside, (path,))

    def _certified(self, path: Path, files: tuple[Path, ...]) -> Iterator[paramiko.PKey]:
        """The key that a certificate is for, with the certificate in its place."""
        if (found := _certificate(path)) is None:
            self._unused.append(f"{path} is not a certificate that can be used here")
            return
        if not found.valid_now:
            self._unused.append(f"the certificate {path} is not valid now: {found.valid}")
        for key in (*self._held(), *filter(None, map(from_file, files))):
            # Those of the agent are shared: each stands for itself too.
            own = AgentKey(key.agent, key.blob) if isinstance(key, AgentKey) else key
            if own.asbytes() == found.plain:
                own.load_certificate(str(path))
                yield own
                return
        self._unused.append(f"the key of the certificate {path} is missing")


@dataclass(frozen=True)
class _Certificate:
    """What a certificate is for: the plain public key in SSH's encoding, and when."""

    plain: bytes
    after: int
    before: int

    @property
    def valid_now(self) -> bool:
        return self.after <= time.time() < self.before

    @property
    def valid(self) -> str:
        """From when to when, in words."""
        begins, ends = (_day(seconds) for seconds in (self.after, self.before))
        return f"it is for {begins} to {ends}"


def _day(seconds: int) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
    except (ValueError, OverflowError, OSError):
        return "no end"


def _certificate(path: Path) -> _Certificate | None:
    """A user certificate; None where it is something else, or can't be read."""
    try:
        with path.open("rb") as file:
            found = load_ssh_public_identity(file.read(_KEY_BYTES_AT_MOST))
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
        return None
    if not isinstance(found, SSHCertificate):
        return None
    line = found.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return _Certificate(base64.b64decode(line.split()[1]), found.valid_after, found.valid_before)


def from_file(path: Path) -> paramiko.PKey | None:
    """The private key in a file, without its certificate; None where it can't be used as it is."""
    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        try:
            return kind.from_private_key_file(str(path))
        except (OSError, ValueError, TypeError, SSHException, UnsupportedAlgorithm):
            continue  # of another kind, encrypted, only for an agent, a public half, or not there
    return None


def public_halves(path: Path) -> set[bytes]:
    """The public key of an identity, in SSH's encoding: from the file itself or ``.pub`` beside."""
    found = set()
    for file in (path, path.with_name(f"{path.name}.pub")):
        try:
            with file.open("rb") as opened:
                text = opened.read(_KEY_BYTES_AT_MOST)
            half = _public(text)
        except (OSError, ValueError):
            continue
        found |= {half} if half else set()
    return found


def _public(text: bytes) -> bytes | None:
    """The public key in a ``.pub`` file, or in a private key of OpenSSH's own format."""
    if not text.startswith(b"-----BEGIN"):
        words = text.split()
        return base64.b64decode(words[1], validate=True) if len(words) > 1 else None
    body = b"".join(line for line in text.splitlines() if b"-----" not in line)
    try:
        blob = base64.b64decode(body, validate=True)
    except binascii.Error:
        return None  # an older format, with headers: it has no public half in the clear
    if not blob.startswith(_NEW_FORMAT):
        return None
    message = paramiko.Message(blob[len(_NEW_FORMAT) :])
    for _ in ("cipher", "kdf", "options of the kdf"):
        message.get_string()
    return message.get_string() if message.get_int() == 1 else None
