"""The hosts: the inventory, SSH sessions, the agent and its requests, lock and token."""
