"""`POST /recommendations`: an Order in, Recommendations out, both as messages of shop.proto."""

from __future__ import annotations

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import urlopen

from google.protobuf.message import DecodeError
from shop_proto.shop_pb2 import Catalog, Order

from shop_recommend.engine import recommend


class Handler(BaseHTTPRequestHandler):
    """Answers one request; the catalog is the orders service's."""

    def do_GET(self) -> None:
        self.answer(200, b"ok", "text/plain") if self.path == "/health" else self.answer(404)

    def do_POST(self) -> None:
        if self.path != "/recommendations":
            return self.answer(404)
        try:
            order = Order.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        except DecodeError as problem:
            return self.answer(400, str(problem).encode(), "text/plain")
        found = recommend(order, self.server.catalog())
        return self.answer(200, found.SerializeToString(), "application/x-protobuf")

    def answer(self, status: int, body: bytes = b"", content_type: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """No line per request."""


class Server(ThreadingHTTPServer):
    """Knows where the catalog is."""

    def __init__(self, address: tuple[str, int], orders: str) -> None:
        super().__init__(address, Handler)
        self.orders = orders

    def catalog(self) -> Catalog:
        """The catalog as it is now. Raises URLError when the orders service does not answer."""
        with urlopen(f"{self.orders}/catalog", timeout=5) as answer:
            return Catalog.FromString(answer.read())


def main() -> None:
    """Serve until stopped. PORT and ORDERS_URL come from the environment."""
    port = int(os.environ.get("PORT", "8081"))
    with Server(("", port), os.environ.get("ORDERS_URL", "http://localhost:8080")) as server:
        print(f"recommend listens on {server.server_port}", flush=True)
        server.serve_forever()
