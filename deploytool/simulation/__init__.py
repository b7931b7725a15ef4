"""Simulated fleets: what ships, over computers in memory.

``machine`` is what a computer has (disk, page cache, processes, ports, boots), ``service`` its
supervisor, ``helper`` the host side, ``wire`` what the network does to a call, ``host`` all of it
together. ``oracle`` looks at the machines themselves: what it says doesn't pass through a probe.
``memory`` has the computer that the host agent runs on.
"""
