"""What lies on which shelf."""

SHELVES = {"green-tea": "A1", "black-tea": "A2", "teapot": "B1"}


def shelf(sku: str) -> str:
    """Where it lies. Raises KeyError."""
    return SHELVES[sku]
