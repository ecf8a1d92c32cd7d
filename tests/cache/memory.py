"""A store in memory for tests of what is put around stores: counts its calls, and does as it is told."""

import threading
from collections import Counter

from build_tests.cache.model import Blob, CorruptError
from build_tests.cache.transfer import Source, receive


class MemoryStore:
    """`on_call` is called with the call's name first, and may wait or raise."""

    def __init__(self, name="memory", on_call=lambda _: None):
        self.name = name
        self.on_call = on_call
        self.records, self.blobs = {}, {}
        self.calls = Counter()
        self.order = []
        self.closed = threading.Event()
        self._lock = threading.Lock()

    def _called(self, call, detail=None):
        with self._lock:
            self.calls[call] += 1
            self.order.append((call, detail))
        self.on_call(call)

    def read_record(self, name):
        self._called("read_record", name)
        return self.records.get(name)

    def write_record(self, name, record, blobs, *, over=None):
        self._called("write_record", name)
        with self._lock:
            there = self.records.get(name)
            if there is not None and there != over:
                return False
            self.records[name] = record
            return True

    def missing(self, blobs):
        self._called("missing", len(blobs))
        return {blob for blob in blobs if blob.digest not in self.blobs}

    def fetch(self, blob: Blob, destination):
        self._called("fetch", blob.digest)
        if blob.digest not in self.blobs:
            return False
        try:
            receive(self.name, blob, destination, [self.blobs[blob.digest]])
        except CorruptError:
            self.blobs.pop(blob.digest, None)
            raise
        return True

    def store(self, blob, source):
        self._called("store", blob.digest)
        with Source(blob, source) as file:
            self.blobs[blob.digest] = b"".join(file)

    def close(self):
        self.closed.set()
