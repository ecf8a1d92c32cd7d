import threading
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from shop_proto.shop_pb2 import Catalog, Order, OrderLine, Product, Recommendations
from shop_recommend.server import Server


@pytest.fixture
def address(monkeypatch):
    teas = Catalog(products=[Product(sku="tea-green", shelf="tea"), Product(sku="tea-black", shelf="tea")])
    monkeypatch.setattr(Server, "catalog", lambda _: teas)
    with Server(("127.0.0.1", 0), "http://unused") as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_order_is_answered_with_recommendations(address):
    order = Order(lines=[OrderLine(sku="tea-green", quantity=1)])
    with urlopen(f"{address}/recommendations", order.SerializeToString()) as answer:
        found = Recommendations.FromString(answer.read())
    assert [item.sku for item in found.items] == ["tea-black"]


def test_a_body_that_is_no_order_is_refused(address):
    with pytest.raises(HTTPError) as refused:
        urlopen(f"{address}/recommendations", b"\xff")
    with refused.value as answer:
        assert answer.code == 400
