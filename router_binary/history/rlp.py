"""The retail programme as it went live: today's strategy, under the name and bit of then."""

from router.retail import RetailLiquidity


class RetailLiquidityProgram(RetailLiquidity):
    """Tokens carry an L."""

    __slots__ = ()
    letter = b"L"
