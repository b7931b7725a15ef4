"""What is held and what works, a symbol and all together."""

from router.config import SymbolConfig


class Account:
    """Sums over all symbols, kept as they change."""

    __slots__ = ("position", "position_value", "working", "working_value")

    def __init__(self) -> None:
        self.position = 0  # sum of |position|, shares
        self.position_value = 0  # the same at reference prices
        self.working = 0  # shares in the market
        self.working_value = 0  # the same at their limit prices


class Book:
    """One symbol."""

    __slots__ = (
        "account", "buying", "cost", "high", "low", "max_position", "name", "position",
        "reference", "selling", "symbol",
    )  # fmt: skip

    def __init__(self, config: SymbolConfig, account: Account) -> None:
        self.name = config.name
        self.symbol = config.name.ljust(8).encode()
        self.account = account
        self.reference = config.reference_price
        width = config.reference_price * config.collar_bp // 10_000
        self.low = max(1, config.reference_price - width)
        self.high = config.reference_price + width
        self.max_position = config.max_position
        self.position = 0
        self.cost = 0  # paid less received
        self.buying = 0
        self.selling = 0

    def work(self, side: bytes, qty: int, price: int) -> None:
        """Count shares that go to work, or with a negative quantity stop working."""
        if side == b"B":
            self.buying += qty
        else:
            self.selling += qty
        account = self.account
        account.working += qty
        account.working_value += qty * price

    def trade(self, side: bytes, qty: int, limit: int, price: int) -> None:
        """Turn working shares into a position."""
        old = self.position
        if side == b"B":
            self.buying -= qty
            self.position = new = old + qty
            self.cost += qty * price
        else:
            self.selling -= qty
            self.position = new = old - qty
            self.cost -= qty * price
        account = self.account
        account.working -= qty
        account.working_value -= qty * limit
        grown = abs(new) - abs(old)
        account.position += grown
        account.position_value += grown * self.reference

    def restore(self, position: int, cost: int) -> None:
        """Take over what an earlier process held."""
        self.position, self.cost = position, cost
        self.account.position += abs(position)
        self.account.position_value += abs(position) * self.reference
