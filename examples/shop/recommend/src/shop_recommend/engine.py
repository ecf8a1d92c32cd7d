"""Scores products against an order."""

from __future__ import annotations

from collections import Counter

from shop_proto.shop_pb2 import Catalog, Order, Recommendation, Recommendations


def recommend(order: Order, catalog: Catalog, limit: int = 3) -> Recommendations:
    """Products of the shelves the customer took from, most visited shelf first, without what is in the order.

    A score is the share of the order's pieces that came from the product's shelf.
    """
    shelf_of = {product.sku: product.shelf for product in catalog.products}
    taken = Counter({line.sku: line.quantity for line in order.lines})
    shelves = Counter[str]()
    for sku, quantity in taken.items():
        shelves[shelf_of.get(sku, "")] += quantity
    pieces = taken.total()
    items = [
        Recommendation(sku=product.sku, score=shelves[product.shelf] / pieces)
        for product in catalog.products
        if product.sku not in taken and shelves[product.shelf]
    ]
    items.sort(key=lambda item: (-item.score, item.sku))
    return Recommendations(items=items[:limit])
