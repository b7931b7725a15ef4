"""The command line: serve, and every question to the process that serves."""

from __future__ import annotations

import argparse
import gc
import json
import os
import select
import signal
import sys
import time

from router import control_client

TYPE_CHECKING = False  # a client is gone sooner than `typing` is imported
if TYPE_CHECKING:
    from typing import Any, Final

    from router import server
    from router.loop import Loop
    from router.release import Release

DONE: Final = 0
NO_ANSWER: Final = 1
BAD_USAGE: Final = 2
REFUSED: Final = 3
MAX_INPUT: Final = 48 * 1024
INPUT_S: Final = 5.0


class BadInputError(Exception):
    """What came on standard input can't be taken."""


def _parser(release: Release) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("router", description=f"Order router {release.version}.")
    parser.add_argument("--version", action="version", version=release.info["version_line"])
    commands = parser.add_subparsers(dest="command", required=True, prog="router")
    serve = commands.add_parser("serve", help="run in the foreground until SIGTERM")
    serve.add_argument("--config", required=True)
    serve.add_argument("--listen", required=True, metavar="HOST:PORT")
    serve.add_argument("--host", required=True, help="this host's name in the configuration")
    serve.add_argument("--fleet", default="", help="the fleet's name: certificates are for one")
    serve.add_argument("--signers", help="OpenSSH allowed-signers file; none: nobody")
    serve.add_argument(
        "--lease", type=_lease_s, default=0.0, metavar="SECONDS",
        help="halt when nobody renews for so long; 0 (the default): never",
    )  # fmt: skip
    serve.add_argument("--rehearsal", action="store_true", help="needed by historical builds")
    status = commands.add_parser("status", help="what the running process says of itself")
    status.add_argument("--json", action="store_true")
    for name, text in (("halt", "stop now"), ("reduce", "only let positions shrink")):
        stop = commands.add_parser(name, help=text)
        stop.add_argument("--reason", required=True)
        stop.add_argument("--by", default="")
    lease = commands.add_parser("lease", help="renew the lease on trading")
    lease.add_argument("nonce", help="the one issued last, or none to begin")
    resume = commands.add_parser("resume", help="trade again: reads the signed request")
    resume.add_argument("--latch", help="without signers: the id that status shows, and no request")
    flag = commands.add_parser(
        "flag", help="runtime flags; `prepare` reads a certificate, or asks for a nonce without one"
    )
    flag.add_argument("action", choices=["prepare", "commit", "settle", "disarm", "show"])
    flag.add_argument("flag", nargs="?", default="")
    commands.add_parser("metrics", help="Prometheus text")
    orders = commands.add_parser("orders", help="children in doubt, or one by its token")
    orders.add_argument("--token", default="")
    orders.add_argument("--in-doubt", action="store_true")
    tracing = commands.add_parser("trace", help="whose order a token was, out of the records")
    tracing.add_argument("token")
    for command in commands.choices.values():
        command.add_argument("--state", required=True, help="the state folder")
    return parser


def _lease_s(text: str) -> float:
    """Read a length that a lease may have."""
    from router.lease import Lease

    try:
        return Lease(float(text)).lease_s
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def main(arguments: list[str], release: Release) -> int:
    """Run one command; give the exit code."""
    options = _parser(release).parse_args(arguments)
    if options.command == "serve":
        return _serve(options, release)
    if options.command == "trace":
        return _trace(options)
    try:
        answer = control_client.ask(options.state, _request(options))
    except BadInputError as error:
        rule = "CERTIFICATE_FORM" if options.command == "flag" else "FORM"
        print(f"router: refused ({rule}): {error}", file=sys.stderr)
        return REFUSED
    except (control_client.NobodyAnsweredError, OSError) as error:
        if options.command == "halt" and _halt_without_router(options):
            return DONE
        print(f"router: {error}", file=sys.stderr)
        return NO_ANSWER
    if not answer["ok"]:
        print(f"router: refused ({answer.get('rule')}): {answer.get('error')}", file=sys.stderr)
        return REFUSED
    _show(options, answer)
    return DONE


def _halt_without_router(options: argparse.Namespace) -> bool:
    """Latch for whoever is started next, where no router runs; not where one runs and hangs."""
    from pathlib import Path

    from router import latch, server

    folder = Path(options.state)
    try:
        owned = server.lock(folder)
        try:
            found = latch.Latch(folder)
            latch_id = found.close(latch.HALTED, options.reason, options.by)
        finally:
            os.close(owned)
    except (server.StartError, OSError):
        return False
    if not (folder / "latch.json").is_file():
        return False
    answer = {"latch": latch_id, "trading_state": found.state, "running": False}
    print(json.dumps(answer, sort_keys=True))
    return True


def _request(options: argparse.Namespace) -> dict[str, Any]:
    request: dict[str, Any] = {"command": options.command}
    for key in ("reason", "by", "latch", "action", "flag", "token", "nonce"):
        if getattr(options, key, ""):
            request[key] = getattr(options, key)
    if options.command == "resume" and not options.latch:
        request["request"] = _input()
    if request.get("action") == "prepare":
        certificate = _input()
        if certificate:
            request["certificate"] = certificate
    return request


def _input() -> str:
    """Read standard input to its end: what is too long, or never ends, is refused and not cut."""
    if os.isatty(0):
        return ""
    until_s, data = time.monotonic() + INPUT_S, bytearray()
    while len(data) <= MAX_INPUT:
        ready, _, _ = select.select([0], [], [], max(0.0, until_s - time.monotonic()))
        if not ready:
            raise BadInputError(f"standard input did not end within {INPUT_S:.0f} s")
        piece = os.read(0, MAX_INPUT)
        if not piece:
            try:
                return data.decode("utf-8")
            except UnicodeDecodeError as error:
                raise BadInputError(f"standard input is no text: {error}") from error
        data += piece
    raise BadInputError(f"standard input is longer than {MAX_INPUT} bytes")


def _show(options: argparse.Namespace, answer: dict[str, Any]) -> None:
    if options.command == "metrics":
        print(answer["text"], end="")
    elif options.command == "status" and not options.json:
        why = f" ({answer['reason']})" if answer["reason"] else ""
        print(f"{answer['host']}: {answer['trading_state']}{why}")
        print(f"router {answer['version']} {answer['release']}")
        print(f"armed: {', '.join(answer['armed']) or 'nothing'}")
    else:
        if options.command == "status":
            del answer["ok"]
        print(json.dumps(answer, sort_keys=True))


def _trace(options: argparse.Namespace) -> int:
    from pathlib import Path

    from router import recovery, trace

    try:
        print(json.dumps(trace.find(Path(options.state), options.token), sort_keys=True))
    except (trace.TraceError, recovery.RecoveryError, OSError, KeyError, ValueError) as error:
        print(f"router: {error}", file=sys.stderr)
        return NO_ANSWER
    return DONE


def _serve(options: argparse.Namespace, release: Release) -> int:
    from pathlib import Path

    from router import config, recovery, server
    from router.loop import Loop

    if release.info["rehearsal_only"] and not options.rehearsal:
        print(
            f"router: {release.version} is a historical build with known defects: it runs in "
            "rehearsals only, with --rehearsal",
            file=sys.stderr,
        )
        return REFUSED
    try:
        loop = Loop()
        found = config.read(Path(options.config), options.host)
        running = server.Server(
            loop, release, found, Path(options.state), options.host, options.listen,
            signers=Path(options.signers) if options.signers else None, fleet=options.fleet,
            lease_s=options.lease,
        )  # fmt: skip
    except (config.ConfigError, server.StartError, recovery.RecoveryError, OSError) as error:
        print(f"router: can't start: {error}", file=sys.stderr)
        return BAD_USAGE
    _on_signal(loop, running)
    names = ", ".join(running.engine.flags.meanings) or "there is none"
    print(f"router: every runtime flag is off, as after every start: {names}", file=sys.stderr)
    # Nothing on the way of an order makes reference cycles, and a collector that walks all
    # orders of the day would halve the speed and stop the router for longer than a halt may take.
    gc.freeze()
    gc.disable()
    loop.run()
    # All is said and written: a second SIGTERM must not turn a clean end into another one.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    left = running.in_doubt_at_end
    if left:
        print(f"router: stopped with {left} children in doubt", file=sys.stderr)
    return NO_ANSWER if left else DONE


def _on_signal(loop: Loop, running: server.Server) -> None:
    """Drain on SIGTERM and Ctrl-C, halt on SIGUSR1: in the loop, not in the middle of something.

    The signal is there for whoever can't wait for a client to start.
    """
    # Who started us may have ignored it: then nobody could say how `ssh-keygen` ended.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, lambda _number, _frame: None)

    def follow(_events: int) -> None:
        told = os.read(reader, 64)
        if signal.SIGUSR1 in told:
            running.halt_by_signal()
        if signal.SIGTERM in told or signal.SIGINT in told:
            running.drain()

    loop.add(reader, follow, urgent=True)
