"""A TCP proxy that misbehaves in one way, in front of a real server on this machine. Counts connections."""

import contextlib
import socket
import struct
import threading
import time


class Proxy:
    """Accepts on a free port and passes bytes on, but for what `how` says of the server's answers.

    pass: as they are. silent: never one. trickle: a byte a second. reset / cut: after `after` bytes the connection is
    reset / closed. rewrite: through the function `rewrite`, piece by piece. black-hole: not even accepted.
    refused: nobody listens.
    """

    def __init__(self, upstream_port, how="pass", after=0, rewrite=lambda piece: piece):
        self.upstream_port, self.how, self.after, self.rewrite = upstream_port, how, after, rewrite
        self.connections = 0
        self.to_server = 0
        self._sockets = []
        self._accepting = None
        self._ended = threading.Event()
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        if how == "black-hole":
            self._listener.listen(0)
            for _ in range(4):  # the kernel drops what comes once the queue is full
                filler = socket.socket()
                filler.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    filler.connect(("127.0.0.1", self.port))
                self._sockets.append(filler)
        elif how != "refused":
            self._listener.listen(64)
            self._accepting = threading.Thread(target=self._accept, daemon=True)
            self._accepting.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._ended.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        if self._accepting:
            self._accepting.join(60)  # or a connection that comes now would stay open
        for each in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self):
        while not self._ended.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._sockets.append(client)
            if self.how == "silent":
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.upstream_port), 5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            self._sockets.append(server)
            threading.Thread(target=self._pump, args=(client, server, self._count), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, self._spoil), daemon=True).start()

    def _pump(self, source, target, pass_on):
        state = {"sent": 0}
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                if not pass_on(piece, source, target, state):
                    return
            target.shutdown(socket.SHUT_WR)

    def _count(self, piece, _, target, __):
        self.to_server += len(piece)
        target.sendall(piece)
        return True

    def _spoil(self, piece, server, client, state):
        if self.how == "trickle":
            for number in range(len(piece)):
                client.sendall(piece[number : number + 1])
                if self._ended.wait(1.0):
                    return False
            return True
        if self.how in ("reset", "cut"):
            piece = piece[: self.after - state["sent"]]
            client.sendall(piece)
            state["sent"] += len(piece)
            if state["sent"] < self.after:
                return True
            if self.how == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                # The other pump reads this socket, and close() alone waits for it.
                client.shutdown(socket.SHUT_RD)
            client.close() if self.how == "reset" else client.shutdown(socket.SHUT_RDWR)
            server.shutdown(socket.SHUT_RDWR)
            return False
        client.sendall(self.rewrite(piece) if self.how == "rewrite" else piece)
        return True


class Canned:
    """A server that says the same to everyone, whatever was asked, once a request's first bytes are there."""

    def __init__(self, answer, *, close=False):
        self.answer, self.close = answer, close
        self.requests = 0
        self._ended = threading.Event()
        self._sockets = [socket.socket()]
        self._sockets[0].bind(("127.0.0.1", 0))
        self._sockets[0].listen(64)
        self.port = self._sockets[0].getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._ended.set()
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._sockets[0].accept()
                self._sockets.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with contextlib.suppress(OSError):
            while client.recv(65536):
                self.requests += 1
                client.sendall(self.answer)
                if self.close:
                    client.shutdown(socket.SHUT_WR)
                    while client.recv(65536):  # closing now would reset what the client has not read yet
                        pass
                    return


def timed(action):
    """What an action returned, and its seconds."""
    start = time.monotonic()
    return action(), time.monotonic() - start
