"""How hosts, accounts, addresses, services and release roots may be named.

Both readers of an inventory use these patterns: the strict one, and that of ``stop``, which has to
do without everything that is slow to import. So this imports nothing. Each matches a whole text.
"""

NAME = r"[a-z][a-z0-9_-]{0,31}"
"""A fleet's or a service's name."""
HOST = r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?"
ACCOUNT = r"[a-z_][a-z0-9_-]{0,31}"
ADDRESS = r"[A-Za-z0-9_:.%][A-Za-z0-9_:.%-]{0,254}"
"""What ``ssh`` is given as a destination: it can't be taken for an option."""
ROOT = r"/[A-Za-z0-9._/{}-]{1,199}"
"""A release root. Units and shell scripts contain it: these characters mean nothing to either."""
UPWARDS = "/.."
"""What no path on a host may contain."""
