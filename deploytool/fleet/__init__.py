"""The hosts: the inventory, SSH sessions, the host helper and its verbs, lock and token."""
