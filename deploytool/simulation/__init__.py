"""Simulated fleets: what ships, over computers in memory.

``memory`` has the computer that the agent's own verbs run on. ``machine`` is one such host as
somebody finds it who stands before it, ``events`` what befalls it, ``host`` the connection to it
and where faults strike, ``fleet`` many of them. ``oracle`` looks at the machines themselves: what
it says doesn't pass through a probe.
"""
