"""A server of the Remote Execution API in this process, written from the protocol alone, for what a test wants it to do
wrong. The contract is shown with real servers."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import grpc

from build_tests.cache._reapi_messages import ACTION_CACHE, BYTE_STREAM, CAPABILITIES, STORAGE, messages

new = messages()
NAME = re.compile(r"(?:(?P<instance>.+)/)?(?:uploads/[0-9a-f-]{36}/)?blobs/(?P<hash>[0-9a-f]{64})/(?P<size>\d+)")
METHODS = {
    f"{ACTION_CACHE}/GetActionResult": ("get", new.GetActionResultRequest),
    f"{ACTION_CACHE}/UpdateActionResult": ("update", new.UpdateActionResultRequest),
    f"{STORAGE}/FindMissingBlobs": ("find", new.FindMissingBlobsRequest),
    f"{STORAGE}/BatchUpdateBlobs": ("write_batch", new.BatchUpdateBlobsRequest),
    f"{STORAGE}/BatchReadBlobs": ("read_batch", new.BatchReadBlobsRequest),
    f"{CAPABILITIES}/GetCapabilities": ("capabilities", new.GetCapabilitiesRequest),
    f"{BYTE_STREAM}/Read": ("read", new.ReadRequest),
    f"{BYTE_STREAM}/Write": ("write", new.WriteRequest),
}


class ReapiServer(grpc.GenericRpcHandler):
    """Keeps everything in `blobs` and `results`; `fails` holds a status code by the name of a method."""

    def __init__(self, max_batch=0, credentials=None, functions=(1,)):
        self.blobs, self.results, self.fails = {}, {}, {}
        self.max_batch, self.functions = max_batch, functions
        self.calls = []
        """(method, metadata), in order."""
        self.largest = 0
        """Bytes of the largest request."""
        self.refused_on_the_way = threading.Event()
        self._server = grpc.server(ThreadPoolExecutor(8), handlers=[self])
        address = "127.0.0.1:0"
        self.port = (
            self._server.add_secure_port(address, credentials)
            if credentials
            else self._server.add_insecure_port(address)
        )

    def __enter__(self):
        self._server.start()
        return self

    def __exit__(self, *_):
        self._server.stop(0).wait()

    def service(self, details):
        name, request = METHODS[details.method]
        self.calls.append((name, dict(details.invocation_metadata)))
        make = {
            "read": grpc.unary_stream_rpc_method_handler,
            "write": grpc.stream_unary_rpc_method_handler,
        }.get(name, grpc.unary_unary_rpc_method_handler)

        def parse(data):
            self.largest = max(self.largest, len(data))
            return request.FromString(data)

        def answer(asked, context):
            if name in self.fails:
                context.abort(self.fails[name], "told to\nfail")
            return getattr(self, name)(asked, context)

        return make(answer, request_deserializer=parse, response_serializer=lambda message: message.SerializeToString())

    def made(self, name):
        return [called for called, _ in self.calls].count(name)

    def has(self, digest):
        return digest.size_bytes == 0 or digest.hash in self.blobs

    def get(self, asked, context):
        result = self.results.get((asked.instance_name, asked.action_digest.hash))
        if result is None or not all(self.has(file.digest) for file in result.output_files):
            context.abort(grpc.StatusCode.NOT_FOUND, "no such result")
        return result

    def update(self, asked, context):
        # The protocol wants the action and its command to be there.
        action = new.Action.FromString(self.blobs[asked.action_digest.hash])
        assert len(self.blobs[asked.action_digest.hash]) == asked.action_digest.size_bytes
        assert new.Command.FromString(self.blobs[action.command_digest.hash]).arguments[0] == "pytest-build"
        self.results[asked.instance_name, asked.action_digest.hash] = asked.action_result
        return asked.action_result

    def find(self, asked, context):
        absent = [digest for digest in asked.blob_digests if not self.has(digest)]
        return new.FindMissingBlobsResponse(missing_blob_digests=absent)

    def write_batch(self, asked, context):
        answer = new.BatchUpdateBlobsResponse()
        for request in asked.requests:
            good = sha256(request.data).hexdigest() == request.digest.hash
            if good:
                self.blobs[request.digest.hash] = request.data
            answer.responses.add(digest=request.digest, status=new.Status(code=0 if good else 3, message="not that"))
        return answer

    def read_batch(self, asked, context):
        answer = new.BatchReadBlobsResponse()
        for digest in asked.digests:
            data = self.blobs.get(digest.hash)
            status = new.Status(code=5 if data is None else 0)
            answer.responses.add(digest=digest, data=data or b"", status=status)
        return answer

    def capabilities(self, asked, context):
        cache = new.CacheCapabilities(digest_functions=self.functions, max_batch_total_size_bytes=self.max_batch)
        return new.ServerCapabilities(cache_capabilities=cache)

    def read(self, asked, context):
        found = NAME.fullmatch(asked.resource_name)
        if found["hash"] not in self.blobs:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such blob")
        data = self.blobs[found["hash"]]
        for begin in range(0, len(data), 100_000):
            yield new.ReadResponse(data=data[begin : begin + 100_000])

    def write(self, requests, context):
        first = next(requests)
        found = NAME.fullmatch(first.resource_name)
        size, name = int(found["size"]), found["hash"]
        if name in self.blobs:
            return new.WriteResponse(committed_size=size)
        data, finished = first.data, first.finish_write
        for request in requests:
            assert request.write_offset == len(data)
            data += request.data
            finished = request.finish_write
        if not finished or sha256(data).hexdigest() != name or len(data) != size:
            self.refused_on_the_way.set()
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not that")
        self.blobs[name] = data
        return new.WriteResponse(committed_size=size)
