"""A small service that keeps docs/contract.md: it is told apart by its payload only."""

import argparse
import hashlib
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import BinaryIO, NoReturn

VERSION = "@VERSION@"


def own_bytes() -> tuple[BinaryIO, str]:
    """The file that this was loaded from: held open, so that the kernel shows what runs here."""
    held = Path(sys.argv[0]).resolve().open("rb")
    return held, hashlib.file_digest(held, "sha256").hexdigest()


def serve(state: str, listen: str) -> NoReturn:
    """Listens where it was told to, and answers `status`, until SIGTERM."""
    _held, release = own_bytes()
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
    with socket.socket(socket.AF_UNIX) as control:
        control.settimeout(5)
        control.connect(str(Path(state, "control.sock")))
        print(b"".join(iter(lambda: control.recv(65536), b"")).decode())


def main() -> int:
    """Does what the arguments say."""
    if sys.argv[1:] == ["--version"]:
        print(f"payload {VERSION}")
        return 0
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=("serve", "status"))
    known = ("--state", "--config", "--listen", "--host", "--fleet", "--signers", "--lease")
    for option in known:
        parser.add_argument(option)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.command == "serve":
        serve(given.state, given.listen)
    try:
        status(given.state)
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


sys.exit(main())
