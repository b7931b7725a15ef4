"""What may leave, in numbers. A number that isn't configured is None, and None blocks."""

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Limits:
    """What a single order, and all of them together, may reach."""

    order_qty: int | None = None
    order_value: int | None = None
    account_position: int | None = None
    gross_notional: int | None = None
    messages_per_s: int | None = None
    children_per_parent: int | None = None
    parents: int | None = None


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What no healthy day reaches: past one of these the router stops by itself."""

    orders_per_s: int | None = None
    position_value: int | None = None
    reject_percent: int | None = None
    reject_min: int | None = None
    children_per_parent: int | None = None
    repeated_executions: int | None = None
    out_per_in: int | None = None
    out_per_in_min: int | None = None


def missing(limits: Limits, thresholds: Thresholds) -> list[str]:
    """Name what isn't configured."""
    return [
        f"{group}.{field.name}"
        for group, values in (("limits", limits), ("breakers", thresholds))
        for field in fields(values)
        if getattr(values, field.name) is None
    ]
