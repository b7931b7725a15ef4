"""Signatures that are made up: that OpenSSH's are real is shown by tests that have a real one."""

from __future__ import annotations

import base64
import hashlib


def sign(name: str, content: bytes, namespace: str) -> str:
    """What stands for ``ssh-keygen -Y sign`` with this person's key."""
    digest = hashlib.sha256(b"\0".join((name.encode(), namespace.encode(), content))).hexdigest()
    coded = base64.b64encode(f"{name} {digest}".encode()).decode()
    return f"-----BEGIN SSH SIGNATURE-----\n{coded}\n-----END SSH SIGNATURE-----\n"


def signer(signature: str, content: bytes, namespace: str) -> str | None:
    """Who signed exactly this; None where it is not a signature of it."""
    try:
        name = base64.b64decode(signature.splitlines()[1]).decode().partition(" ")[0]
    except (ValueError, IndexError):
        return None
    return name if signature == sign(name, content, namespace) else None
