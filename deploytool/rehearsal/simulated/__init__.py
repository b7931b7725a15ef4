"""Hosts that live in memory: they answer the helper's verbs as real ones do, and break by name.

``machine`` is what a computer has (disk, page cache, processes, ports, boots), ``service`` its
supervisor, ``helper`` the host side, ``wire`` what the network does to a call, ``host`` all of it
together. ``oracle`` looks at the machines themselves: what it says doesn't pass through a probe.
"""
