"""What runs on a host: one root-owned program that answers requests on its standard input.

It is written for Python 3.9 with the standard library alone, and imports nothing but itself. Its
verbs decide, and act only through ``port``: ``linux`` is that port for real, and the simulation has
one in memory. What ships is therefore what is simulated.

``record``, ``words``, ``model``, ``requests`` and ``protocol`` are shared with the operator's side,
so that both ends check a message by one description. ``typing``, ``dataclasses`` and the like are
not imported while it runs: a host pays for each import in every deployment.
"""
