"""The real host: requests to its agent over SSH."""

from __future__ import annotations

import secrets
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass

from deploytool.agent.protocol import answer_end, first_line, request_bytes
from deploytool.agent.requests import Answer, Probe, Request
from deploytool.core.text import excerpt
from deploytool.errors import FaultKind, HostFault
from deploytool.fleet.descriptors import make_room
from deploytool.fleet.exchange_log import LOG
from deploytool.fleet.fanout import WIDTH
from deploytool.fleet.host import Payload
from deploytool.fleet.model import Inventory
from deploytool.fleet.openssh import KEEPALIVE_S
from deploytool.fleet.prepared import invocation, sudo_asks
from deploytool.fleet.protocol import OTHER_VERSION, parse_answer
from deploytool.fleet.session import Conversation, Output, Session
from deploytool.fleet.sshconfig import Route, route

_GIVES_UP_AFTER = 2
"""Attempts to reach a host that fail in a row: a hung host must not cost its deadline each step."""
_SHORT_LOOK_S = 15.0
"""So long a host has, whose last command did not end, to show that it answers again: more than the
10 s for which it waits itself until what is under way there has ended."""


_BEGUN_S = 30.0
"""So long the rest of a request may follow its first line; the agent itself waits twice as long."""


@dataclass(frozen=True)
class _Begun:
    """A probe whose first line was sent: its nonce, and until when the rest may follow."""

    nonce: str
    until: float


class RemoteHost:
    """One declared host: one SSH session and one run of its agent, opened when first needed.

    Requests follow each other on the agent's standard input, so that a round costs the host one
    small process and not a login, a ``sudo`` and a shell.
    """

    def __init__(self, inventory: Inventory, name: str, way: Route | None = None) -> None:
        self._inventory = inventory
        self._name = name
        self._way = way
        self._session: Session | None = None
        self._agent: Conversation | None = None
        self._failures = 0
        self._hung = False
        self._last: HostFault | None = None
        self._early: Exception | None = None
        self._begun: _Begun | None = None
        self._turn = threading.Lock()

    @property
    def name(self) -> str:
        """Its name in the inventory."""
        return self._name

    def connect_early(self) -> None:
        """Begins to open the session in the background, before it is needed.

        Of the host nothing is asked but to get ready for a probe: its agent starts, and waits for
        the rest of the request. A fault is that of the next call, which then tries no more.
        """
        taken = threading.Event()

        def work() -> None:
            with self._turn:
                taken.set()
                try:
                    self._agent = self._agent or self._connect(
                        self._inventory.ssh.command_timeout_s
                    )
                    self._begin(self._agent)
                except Exception as error:  # noqa: BLE001 it is raised by the next call, whole
                    self._early = error

        threading.Thread(target=work, name=f"connect-{self._name}", daemon=True).start()
        taken.wait()  # so that whoever calls next waits for this attempt, and makes no other

    def _begin(self, agent: Conversation) -> None:
        nonce = secrets.token_hex(16)
        self._begun = _Begun(nonce, time.monotonic() + _BEGUN_S)
        agent.begin(first_line(nonce, Probe.verb))

    def call(
        self,
        request: Request,
        *,
        deadline_s: float,
        payload: Payload | None = None,
        insist: bool = False,
    ) -> Answer:
        """Has its agent carry out ``request``, once. See ``Host.call``."""
        size = payload.size if payload is not None else 0
        with LOG.asks(self._name, request.verb, request, size) as exchange:
            exchange.answer = self._in_turn(request, deadline_s, payload, insist=insist)
            return exchange.answer

    def _in_turn(
        self, request: Request, deadline_s: float, payload: Payload | None, *, insist: bool
    ) -> Answer:
        if not self._turn.acquire(timeout=deadline_s):
            raise HostFault(FaultKind.TIMEOUT, "an earlier command to it still hangs")
        try:
            return self._call(request, deadline_s, payload, insist=insist)
        finally:
            self._turn.release()

    def _call(
        self, request: Request, deadline_s: float, payload: Payload | None, *, insist: bool
    ) -> Answer:
        """One call; what only looks is asked once more over a new line, where an idle one was dead.

        What changes something is asked again only if the old line was known to be dead before.
        """
        ends = time.monotonic() + deadline_s
        if self._agent is not None and not self._agent.alive:
            self._hang_up()
        kept = self._session is not None
        try:
            return self._ask(request, deadline_s, payload, insist=insist)
        except HostFault as fault:
            if not kept or fault.kind is not FaultKind.LOST or fault.in_doubt:
                raise
            self.close()
        left_s = max(1.0, ends - time.monotonic())
        return self._ask(request, left_s, payload, insist=insist)

    def _ask(
        self, request: Request, deadline_s: float, payload: Payload | None, *, insist: bool
    ) -> Answer:
        given_up = self._failures >= _GIVES_UP_AFTER and not insist
        if given_up and self._last is not None:
            raise HostFault(self._last.kind, f"{self._last.text} (given up)")
        if self._hung and not insist:
            deadline_s = min(deadline_s, _SHORT_LOOK_S)
        agent = None
        try:
            early, self._early = self._early, None
            if early is not None:
                raise early
            nonce, head = self._framed(request)
            agent = self._agent or self._connect(deadline_s)
            output = agent.ask(
                _chunks(head, payload),
                answer_end(nonce),
                deadline_s=deadline_s,
                changes=request.changes,
            )
        except HostFault as fault:
            self._failures += 1
            self._hung = agent is not None and fault.kind is FaultKind.TIMEOUT
            self._last = fault
            self.close()
            raise
        self._failures, self._hung = 0, False
        try:
            return self._answer(request, nonce, output)
        except HostFault:
            # The agent ends after a refusal, and nobody knows what the stream holds otherwise.
            self._hang_up()
            raise

    def _framed(self, request: Request) -> tuple[str, bytes]:
        """The request's nonce, and what of it is still to be sent."""
        begun, self._begun = self._begun, None
        if begun is not None and self._agent is not None:
            if request.verb == Probe.verb and time.monotonic() < begun.until:
                line = first_line(begun.nonce, request.verb)
                return begun.nonce, request_bytes(request, begun.nonce)[len(line) :]
            self._hang_up()  # it waits for another request, or no longer
        nonce = secrets.token_hex(16)
        return nonce, request_bytes(request, nonce)

    def _answer(self, request: Request, nonce: str, output: Output) -> Answer:
        try:
            return parse_answer(output.output, nonce, request)
        except HostFault as fault:
            errors = output.errors.decode("utf-8", "replace")
            if fault.kind is not FaultKind.PROTOCOL:
                raise
            if sudo_asks(errors):
                raise HostFault(
                    FaultKind.RIGHTS,
                    f"sudo does not let this account run the agent: {excerpt(errors)}",
                ) from fault
            if output.status is None:
                # It was asked, and the connection ended without a word: it may have done it.
                text = "it was lost after the request was sent"
                raise HostFault(FaultKind.LOST, text, in_doubt=request.changes) from fault
            if output.status == 0 and not fault.in_doubt:
                # An agent answers before it does anything; the helper of 0.1.0 ends without a word.
                text = "it was made ready by deploytool 0.1.0: prepare it again"
                raise HostFault(FaultKind.AGENT, text, code=OTHER_VERSION) from fault
            # sudo ends with 1 of its own where the file is gone.
            if output.status in {126, 127} or errors.rstrip().endswith("command not found"):
                raise HostFault(FaultKind.AGENT, excerpt(errors), code="missing") from fault
            raise HostFault(
                fault.kind, f"{fault.text}; errors: {excerpt(errors)}", in_doubt=fault.in_doubt
            ) from fault

    def _connect(self, deadline_s: float) -> Conversation:
        ssh = self._inventory.ssh
        if self._way is None:
            self._way = route(self._inventory, self._name)
        if self._session is None or not self._session.alive:
            self.close()
            self._session = Session(self._way, ssh.known_hosts, ssh.connect_timeout_s)
        command = invocation(self._inventory, self._name)
        self._agent = self._session.converse(command, min(deadline_s, ssh.command_timeout_s))
        _KEEPER.keep(self)
        return self._agent

    def keep_alive(self) -> None:
        """Keeps its connection from being cut as idle, where nothing is asked of it now."""
        if not self._turn.acquire(blocking=False):
            return
        try:
            if self._agent is not None:
                self._agent.keep_alive()
        finally:
            self._turn.release()

    def _hang_up(self) -> None:
        self._begun = None
        if self._agent is not None:
            self._agent.close()
            self._agent = None

    def close(self) -> None:
        """Closes the session; the next call opens a new one."""
        self._hang_up()
        if self._session is not None:
            self._session.close()
            self._session = None


class _Keeper:
    """One thread of this process that keeps idle connections from being cut."""

    def __init__(self) -> None:
        self._hosts = weakref.WeakSet[RemoteHost]()
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None

    def keep(self, host: RemoteHost) -> None:
        """From now on, for as long as the host is there."""
        with self._guard:
            self._hosts.add(host)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            time.sleep(KEEPALIVE_S)
            with self._guard:
                hosts = tuple(self._hosts)
            for host in hosts:
                host.keep_alive()
            del hosts


_KEEPER = _Keeper()


def _chunks(head: bytes, payload: Payload | None) -> Iterator[bytes]:
    """The request and what follows it.

    Raises:
        HostFault: the payload isn't as long as was said; the host gets no more, and discards it.
    """
    yield head
    if payload is None:
        return
    left = payload.size
    for chunk in payload.open():
        left -= len(chunk)
        if left < 0:
            break
        yield chunk
    if left != 0:
        text = "the release on this machine changed while it was sent"
        raise HostFault(FaultKind.PROTOCOL, text, code="short-copy")


def connect_fleet(inventory: Inventory, *, early: bool = False) -> dict[str, RemoteHost]:
    """A host for each declared name, in name order; nothing is asked of any yet.

    ``early``: all will be probed presently: sessions are opened, and agents get ready for that,
    while this machine does.
    """
    make_room()
    hosts = {name: RemoteHost(inventory, name) for name in inventory.names}
    for host in list(hosts.values())[: WIDTH if early else 0]:
        host.connect_early()
    return hosts
