"""Real servers for the stores, one of each for the session; see servers.py."""

import os
import uuid

import pytest
from servers import ACCESS, BUCKET, S3_SERVERS, SECRET, Server, redis_command, s3_client

pytest.register_assert_rewrite("contract")


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    """A redis-server that nobody but the tests that empty prefixes of their own uses."""
    server = Server(redis_command(), tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture
def own_redis(tmp_path):
    """Makes redis-servers that a test may configure, fill, stop and start; each with more arguments."""
    servers = []

    def make(*more):
        folder = tmp_path / f"redis-{len(servers)}"
        folder.mkdir()
        servers.append(Server(redis_command(*more), folder).start())
        return servers[-1]

    yield make
    for server in servers:
        server.stop()


@pytest.fixture(scope="session", params=S3_SERVERS)
def s3_server(request, tmp_path_factory):
    """An S3 server with the bucket BUCKET: one that keeps files behind a real gateway, and moto's."""
    folder = tmp_path_factory.mktemp(request.param)
    server = Server(S3_SERVERS[request.param](str(folder)), str(folder)).start()
    server.client = s3_client(server.port)
    server.client.create_bucket(Bucket=BUCKET)
    yield server
    server.client.close()
    server.stop()


@pytest.fixture
def aws(monkeypatch, tmp_path):
    """Credentials for the S3 servers, and no others from wherever these tests run."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))


@pytest.fixture
def prefix():
    """A name of this test's own in a shared server."""
    return f"t-{uuid.uuid4().hex[:12]}"
