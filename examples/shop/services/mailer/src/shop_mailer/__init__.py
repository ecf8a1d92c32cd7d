"""The mail that says where to pick things up."""

from shop_stock import shelf


def mail(skus: list[str]) -> str:
    """A line for each of the things that were ordered."""
    return "\n".join(f"{sku}: shelf {shelf(sku)}" for sku in skus)
