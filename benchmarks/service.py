"""A small service that keeps docs/contract.md: it is told apart by its payload only.

A question is answered with no more imports than it needs: every tool pays for each of them.
"""

import sys

VERSION = "@VERSION@"


def serve(state: str, listen: str) -> None:
    """Listens where it was told to, and answers `status`, until SIGTERM."""
    import hashlib
    import json
    import os
    import signal
    import socket
    from pathlib import Path

    # Held open, so that the kernel shows what runs here.
    held = Path(sys.argv[0]).resolve().open("rb")
    release = hashlib.file_digest(held, "sha256").hexdigest()
    host, _, port = listen.rpartition(":")
    _wire = socket.create_server((host, int(port)), backlog=16)
    path = Path(state, "control.sock")
    path.unlink(missing_ok=True)
    control = socket.socket(socket.AF_UNIX)
    control.bind(str(path))
    control.listen(16)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    said = {
        "release": release,
        "version": VERSION,
        "pid": os.getpid(),
        "start_ticks": int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]),
        "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "flag_table": None,
        "wire": None,
        "armed": [],
        "epoch": 0,
        "trading_state": "ACTIVE",
        "reason": "",
    }
    while True:
        with control.accept()[0] as asked:
            asked.settimeout(5)
            try:
                asked.sendall(json.dumps(said).encode())
            except OSError:
                continue


def status(state: str) -> None:
    """Asks the running process."""
    import socket

    with socket.socket(socket.AF_UNIX) as control:
        control.settimeout(5)
        control.connect(f"{state}/control.sock")
        print(b"".join(iter(lambda: control.recv(65536), b"")).decode())


def main() -> int:
    """Does what the arguments say: pairs of an option and its value, besides `--json`."""
    if sys.argv[1:] == ["--version"]:
        print(f"payload {VERSION}")
        return 0
    command, *words = (word for word in sys.argv[1:] if word != "--json")
    given = dict(zip(words[::2], words[1::2], strict=True))
    if command == "serve":
        serve(given["--state"], given["--listen"])
    try:
        status(given["--state"])
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


sys.exit(main())
