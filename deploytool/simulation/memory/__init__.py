"""The agent's port in memory: computers on which the real verbs run, crash and interleave.

``disk`` says what a loss of power leaves; ``computer`` has the rest of a machine; ``service``,
``artifact`` and ``programs`` what runs on it. ``run`` is one run of the agent, and ``files``,
``processes``, ``supervisor``, ``commands`` and ``agent`` its port. ``host`` puts them together, and
``schedule`` has several runs take turns.
"""
