"""One line, and under it OpenSSH's armoured signature over it: how signed things travel. Pure."""

from __future__ import annotations

BYTES_AT_MOST = 48 * 1024
"""What a router takes for one request, the signature included."""
_SIGNATURE = "-----BEGIN SSH SIGNATURE-----\n"
_END = "-----END SSH SIGNATURE-----\n"


def seal(line: bytes, signature: str) -> str:
    """What a router is given: a certificate's ``line``, and under it OpenSSH's armoured signature.

    Raises:
        ValueError: that is no signature, or the whole is more than a router takes.
    """
    if not signature.startswith(_SIGNATURE) or not signature.endswith(_END):
        raise ValueError("that is no armoured SSH signature")
    text = line.decode("utf-8") + signature
    if len(text.encode("utf-8")) > BYTES_AT_MOST:
        raise ValueError(f"a router takes no more than {BYTES_AT_MOST} bytes")
    return text


def unseal(text: str) -> tuple[bytes, str]:
    """The bytes that were signed, and the signature, out of what ``seal`` made.

    Raises:
        ValueError: it is not one line and one signature.
    """
    line, newline, signature = text.partition("\n")
    whole = signature.startswith(_SIGNATURE) and signature.endswith(_END)
    if not newline or not whole or signature.count("-----BEGIN") != 1:
        raise ValueError("it is not one line with one armoured SSH signature under it")
    return f"{line}\n".encode(), signature
