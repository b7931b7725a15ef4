"""What runs on a host: one root-owned program that answers requests on its standard input.

It is written for Python 3.9 with the standard library alone, and imports nothing but itself. Its
verbs decide, and act only through ``port``: ``linux`` is that port for real, and the simulation has
one in memory. What ships is therefore what is simulated.

``record``, ``words``, ``model``, ``requests`` and ``protocol`` are shared with the operator's side,
so that both ends check a message by one description. ``typing``, ``dataclasses`` and the like are
not imported while it runs: a host pays for each import in every deployment.

Theory of operation
-------------------
``sudo`` lets the deploy account run one file without arguments. The file is rendered by ``host
prepare``: a shell stub, the last rungs of a stop in shell, and behind a marker the settings and the
sources of these modules. Its SHA-256 is part of the evidence.

1. The stub reads the first line. ``deploytool/1`` is a rung of a stop and stays in shell.
   ``deploytool/2`` replaces the shell by Python in a closed environment (``loader``), which reads
   and digests the whole file before it answers anything.
2. ``__main__`` moves its standard streams away, so that no program that it starts can write into
   the protocol, and reads requests until its input ends.
3. For each request it writes the answer's first line, with the request's nonce, at once; ``serve``
   finds the verb (``verbs``), opens the host (``host``) and calls it; the answer's last line is
   written when the verb has returned.
4. A verb that changes something takes the host's mutex, checks lock and token under it, does its
   effect and looks, all before it lets go. A verb of a stop takes no mutex and no token.
5. After a refusal the agent ends: how much of a payload was left unread is not known.

Each call of the port is a point at which the simulation may cut the power, fill the disk or let
another agent run, so a verb is written as a list of steps that may end after any of them. What has
to survive that is a *mark*: a small file in ``state/`` (``marks``), synced before the effect that
it announces. A change that has begun goes on when the connection is lost.

What may never happen
---------------------
- A path or a command comes from a request: those are in the settings, inside the digested file.
- A module is read from disk after the first request: what runs is what was digested.
- A mark that is there and cannot be read counts as absent.
- A stop waits for the mutex, a token, a lease or a healthy supervisor.
- A refusal follows an effect: whoever reads one may rely on nothing having changed.
"""
