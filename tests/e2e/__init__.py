"""Whole commands on real hosts."""
