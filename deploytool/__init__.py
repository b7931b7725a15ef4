"""Puts a build on a fleet of identical servers over SSH and proves that every one runs it."""

__version__ = "0.1.0"
