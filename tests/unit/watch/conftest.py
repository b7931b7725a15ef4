"""A watch has a runtime folder of its own."""

from tests.unit.stop.conftest import runtime as runtime
