from shop_proto.shop_pb2 import Catalog, Order, OrderLine, Product
from shop_recommend.engine import recommend

CATALOG = Catalog(
    products=[
        Product(sku="tea-green", shelf="tea"),
        Product(sku="tea-black", shelf="tea"),
        Product(sku="cup-small", shelf="cups"),
        Product(sku="cup-large", shelf="cups"),
    ]
)


def order(**quantities):
    return Order(lines=[OrderLine(sku=sku.replace("_", "-"), quantity=n) for sku, n in quantities.items()])


def skus(found):
    return [item.sku for item in found.items]


def test_the_shelf_most_taken_from_comes_first():
    found = recommend(order(tea_green=1, cup_small=3), CATALOG)
    assert skus(found) == ["cup-large", "tea-black"]
    assert [item.score for item in found.items] == [0.75, 0.25]


def test_what_is_in_the_order_is_not_recommended():
    assert skus(recommend(order(tea_green=1, tea_black=1), CATALOG)) == []


def test_an_empty_order_has_no_recommendations():
    assert skus(recommend(Order(), CATALOG)) == []


def test_no_more_than_the_limit():
    assert skus(recommend(order(tea_green=1, cup_small=1), CATALOG, limit=1)) == ["cup-large"]
