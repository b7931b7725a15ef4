"""Lets a stopped host in again, by a request that a second person signed.

A stop takes no mutex and may come at any moment. It writes its latch before anything else, and it
wins: after each step that undoes something of a stop, the latch is looked at again, and what was
undone is done again where another stop holds by then.
"""

from __future__ import annotations

from deploytool.agent import marks
from deploytool.agent.host import Refusal, attempt, writing
from deploytool.agent.model import Latch, Released
from deploytool.agent.protocol import parse_json
from deploytool.agent.record import Malformed, Record
from deploytool.agent.requests import Resumed
from deploytool.agent.verbs import latches, service
from deploytool.agent.verbs.receiving import pieces
from deploytool.agent.words import DOCUMENT_AT_MOST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from deploytool.agent.host import AgentHost
    from deploytool.agent.port import Payload
    from deploytool.agent.requests import LetIn, Resume
    from deploytool.agent.words import Text, Time

NAMESPACE = "start.deploytool"
NO_STOP = "none"
"""The stop that a request names for a host without one: its artifact halted by itself."""
LIFETIME_S = 3600
RECEIVE_S = 5
HALT_S = 2.0
LOG = "let-in"
"""Who let this host in without a signature, when and why: a line each."""
LOG_AT_MOST = 65536


class SignedStart(Record):
    """Who asks to start which host, why, and which stop that ends; ``latch`` is the artifact's own.

    ``issued`` and ``expires`` in seconds since the epoch.
    """

    by: Text
    expires: Time
    fleet: Text
    host: Text
    issued: Time
    latch: Text
    reason: Text
    stop: Text


# --- what may be believed: pure -----------------------------------------------------------------


def parse_signed(content: bytes) -> tuple[SignedStart, bytes, str]:
    """A request, the bytes that were signed, and the signature.

    Raises:
        Malformed: it is something else, or not in its one spelling (two readers could differ).
    """
    line, newline, signature = content.partition(b"\n")
    found = parse_json(line, DOCUMENT_AT_MOST)
    start = SignedStart.from_json(found, "request to start", strict=True)
    import json  # its one spelling keeps other letters than ASCII

    canonical = json.dumps(found, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    if canonical.encode("utf-8", "replace") != line:
        raise Malformed("request to start", "sorted keys and no blanks", line)
    return start, line + newline, signature.decode("ascii", "replace")


def is_of(start: SignedStart, named: str | None, latch: Latch | None) -> bool:
    """Whether the stop that holds here is the one that was asked about, and signed for.

    ``named``: the stop that the operator's side saw on this host. The artifact may keep its own
    latch through a second stop: which stop it is, only this host knows.
    """
    if latch is None:
        return start.stop == NO_STOP
    return start.stop == latch.latch == named


def objection(
    start: SignedStart, signer: str | None, latch: Latch | None, fleet: str, host: str, now: float
) -> str:
    """Why this is no second person's word for this host and the stop that holds here; or empty."""
    if signer is None:
        return "none of the signers has signed it"
    if signer.casefold() == start.by.casefold():
        return f"{signer} asked for it and signed it; a second person must sign"
    if (start.fleet, start.host) != (fleet, host):
        return f"it is for {start.host} of {start.fleet}"
    if latch is None:
        return "the stop that fenced this host left no latch; stop it again, then ask to start it"
    if start.latch != (latch.artifact or latch.latch):
        return f"it is for latch {start.latch}, and {latch.artifact or latch.latch} holds here"
    if not 0 < start.expires - start.issued <= LIFETIME_S or now > start.expires:
        return "it expired, or is good for longer than a request may be"
    return ""


# --- resume -------------------------------------------------------------------------------------


def resume(host: AgentHost, request: Resume, payload: Payload) -> Resumed:
    """Ends the stop that holds here where the artifact and this host agree; the latch goes last."""
    content = _receive(host, request, payload)
    try:
        start, signed, signature = parse_signed(content)
    except Malformed as error:
        raise Refusal("bad-request", str(error)[:4096]) from error
    with host.mutex():
        latches.put_back(host)
        latch = _latch(host)
        fenced = marks.is_there(host.state, "fenced")
        command = host.settings.resume
        if latch is None and not fenced and command is None:
            raise Refusal("not-halted", "this host was not stopped")
        if not is_of(start, request.latch, latch):
            raise _other(latch)
        # A start that was interrupted may have taken the fence away, and started nothing.
        starts = fenced or (latch is not None and not service.serves(host))
        signer = None
        if starts or command is None:
            # An artifact that runs checks it too. Where none runs, or it has no such command, the
            # host is the only one that can.
            signer = _check_second_person(host, start, latch, signed, signature)
        if starts:
            _let_in(host, request.latch, start)
        said = None
        if command is not None:
            said = service.run(host, command, sent=content)
            if (service.spoken(said) or {}).get("trading_state") != "ACTIVE":
                return Resumed(said=said)  # it says why not, and the latch stays
        # As long as the latch is there, a change notes what serves from now on.
        host.remove("meant")
        _note_end(host, latch, start.by, signer)
        _lift(host, request.latch, start)
    return Resumed(said=said, released=True)


def let_in(host: AgentHost, request: LetIn, _: Payload) -> Resumed:
    """Ends the stop that holds here now, without a signature, where the host knows no signers.

    Who asked and why is written down before anything is done (``state/let-in``).
    """
    if host.settings.signers is not None:
        text = "this host knows signers: 'deploytool start' lets it in again, by two people"
        raise Refusal("signers", text)
    with host.mutex():
        latches.put_back(host)
        latch = _latch(host)
        fenced = marks.is_there(host.state, "fenced")
        if latch is None and not fenced:
            raise Refusal("not-halted", "this host was not stopped")
        named = latch.latch if latch is not None else None
        _write_down(host, request, named)
        # It is for the stop that holds here now, and for none that comes meanwhile.
        start = SignedStart(
            by=request.by,
            expires=0,
            fleet=host.settings.fleet,
            host=host.settings.host,
            issued=0,
            latch="",
            reason=request.reason,
            stop=named or NO_STOP,
        )
        if fenced or not service.serves(host):
            _let_in(host, named, start)
        said = None
        command, own = host.settings.resume, latch.artifact if latch is not None else None
        if command is not None and own is not None:
            said = service.run(host, command.but(argv=(*command.argv, "--latch", own)))
        host.remove("meant")
        _note_end(host, latch, request.by, None)
        _lift(host, named, start)
    return Resumed(said=said, released=True)


def _write_down(host: AgentHost, request: LetIn, named: str | None) -> None:
    now = int(host.system.machine.now())
    reason = request.reason.replace("\n", " ")
    line = f"since {now} by {request.by} latch {named or NO_STOP} reason {reason}"
    with writing(f"{host.state.path}/{LOG}"):
        there = host.state.entry(LOG) is not None
        before = host.state.read(LOG, LOG_AT_MOST).decode("utf-8", "replace") if there else ""
        marks.put(host.state, **{LOG: f"{before[-LOG_AT_MOST // 2 :]}{line}\n"})


def _note_end(host: AgentHost, latch: Latch | None, by: str, signer: str | None) -> None:
    """Leaves what tells the other hosts of that stop that it ended here lawfully."""
    if latch is None:
        return
    ended = Released(
        latch=latch.latch,
        stopped=latch.since,
        since=int(host.system.machine.now()),
        by=by,
        signer=signer,
    )
    with writing(f"{host.state.path}/released"):
        marks.add_released(host.state, ended)


def _receive(host: AgentHost, request: Resume, payload: Payload) -> bytes:
    if request.size > DOCUMENT_AT_MOST:
        raise Refusal("bad-request", f"a signed request has at most {DOCUMENT_AT_MOST} bytes")
    until = host.system.machine.uptime() + RECEIVE_S
    return b"".join(pieces(host.system.machine, payload, request.size, until))


def _latch(host: AgentHost) -> Latch | None:
    """The stop that holds here.

    Raises:
        Refusal: its mark can't be read: which stop it is can't be told.
    """
    try:
        return marks.read(host.state, "halted", Latch)
    except (OSError, Malformed) as error:
        advice = "stop this host again, which writes it afresh; then ask to start it"
        raise host.damaged("halted", error, advice) from error


def _check_second_person(
    host: AgentHost, start: SignedStart, latch: Latch | None, signed: bytes, signature: str
) -> str | None:
    """What was fenced is started by two people, whatever runs here checks or doesn't.

    Gives who signed; None where the inventory names no signers.
    """
    settings = host.settings
    if settings.signers is None:
        return None
    try:
        signer = host.system.commands.signer(signature, signed, NAMESPACE)
    except OSError:
        signer = None
    now = host.system.machine.now()
    why = objection(start, signer, latch, settings.fleet, settings.host, now)
    if why:
        raise Refusal("not-signed", f"nothing was started: {why}"[:4096])
    return signer


def _other(latch: Latch | None) -> Refusal:
    holds = f"stop {latch.latch} by {latch.by}" if latch is not None else "no stop"
    text = f"what holds here is {holds}, and the request is for another; look, and ask again"
    return Refusal("other-latch", text)


def _let_in(host: AgentHost, named: str | None, start: SignedStart) -> None:
    """Takes the fence away, and starts what is active."""
    host.remove("fenced")
    try:
        _check_same(host, named, start)
    except Refusal:
        # It may have been the other stop's fence.
        _fence(host)
        raise
    service.unfence(host)
    link = host.root.entry("current")
    if link is not None and link.kind == "link":
        service.start_again(host)
    if marks.is_there(host.state, "fenced"):
        raise Refusal("halted", "this host was stopped and fenced again meanwhile")
    _check_same(host, named, start)


def _check_same(host: AgentHost, named: str | None, start: SignedStart) -> None:
    latch = _latch(host)
    if not is_of(start, named, latch):
        raise _other(latch)


def _fence(host: AgentHost) -> None:
    with attempt():
        marks.put(host.state, fenced="")
    with attempt():
        host.system.supervisor.mask()


def _lift(host: AgentHost, named: str | None, start: SignedStart) -> None:
    """Removes the latch, if it is the one that the request is for.

    A stop that came since was answered HALTED. The artifact is halted again to make that true; if
    it does not halt, the host is fenced.
    """
    if not marks.is_there(host.state, "halted"):
        return
    # It is taken away whole: a latch that is written from here on is a new file, and the halt that
    # comes with it is still to come.
    lifted = f"{latches.LIFTED}{host.system.machine.draft()}"
    with writing(f"{host.state.path}/halted"):
        host.state.rename("halted", lifted)
    try:
        latch = marks.read(host.state, lifted, Latch)
    except (OSError, Malformed):
        latch = None
    if latch is not None and is_of(start, named, latch):
        host.remove(lifted)
        return
    with attempt():
        latches.put_back_one(host, lifted)
    said = latches.halt_artifact(host, latch, HALT_S) if latch is not None else None
    if not latches.says_halted(said):
        _fence(host)
        service.fence(host)
    raise _other(latch)
