"""Kind protobuf with the real compilers and plugins."""

import subprocess

import pytest
from inputs_are_right import judge

from build_tests.testing import Outcome

API = """
syntax = "proto3";
package shop;
import "money.proto";
option go_package = "example.com/shop;shop";
option java_multiple_files = true;
option java_package = "shop";
message Price { common.Money money = 1; }
service Prices { rpc Get(Price) returns (Price); }
"""
MONEY = """
syntax = "proto3";
package common;
option go_package = "example.com/common;common";
message Money { int64 cents = 1; }
"""
LANGUAGES = {
    "python": ["api_pb2.py", "api_pb2.pyi", "api_pb2_grpc.py"],
    "java": ["shop/Price.java"],
    "kotlin": ["shop/PriceKt.kt"],
    "cpp": ["api.pb.h", "api.pb.cc"],
    "go": ["api.pb.go", "api_grpc.pb.go"],
    "typescript": ["api_pb.ts"],
    "ts_proto": ["api.ts"],
}


@pytest.mark.real(
    "protoc", "python-grpc-tools-protoc", "protoc-gen-go", "protoc-gen-go-grpc", "protoc-gen-es", "protoc-gen-ts_proto"
)
def test_seven_languages_from_one_schema(build_workspace):
    ws = build_workspace
    languages = {name: {"out": f"gen/{name}"} for name in LANGUAGES}
    languages["python"]["grpc"] = languages["go"]["grpc"] = True
    languages["ts_proto"]["plugin"] = "protoc-gen-ts_proto"
    ws.components(proto={"kind": "protobuf", "imports": ["//common"], "languages": languages})
    ws.write("proto/api.proto", API)
    ws.write("common/money.proto", MONEY)
    first = ws.build()
    assert first.status == 0, first.output
    for name, files in LANGUAGES.items():
        for file in files:
            assert "Price" in ws.read(f"proto/gen/{name}/{file}"), file
    assert set(ws.build().outcomes().values()) == {"fresh"}
    ws.write("common/money.proto", MONEY.replace("cents", "pence"))
    again = ws.build()
    assert set(LANGUAGES) <= {label.partition(":")[2] for label in again.ran}
    assert again["proto:generate"] is not Outcome.FAILED
    ws.write("proto/api.proto", API.replace("common.Money", "common.Mony"))
    failed = ws.build("-k", "cpp")
    assert 'api.proto:8:17: "common.Mony" is not defined' in failed.output


def git(ws, *arguments):
    who = ["-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *who, *arguments], cwd=ws.root, env=ws.environ, check=True, capture_output=True)


SCHEMA = """syntax = "proto3";
package shop.v1;
message Price { int64 cents = 1; }
"""


@pytest.mark.real("buf", "git", "protoc-gen-es", "strace")
def test_buf_generates_lints_and_compares(build_workspace):
    ws = build_workspace
    ws.components(api={"kind": "protobuf", "breaking": "main"})
    ws.write("api/buf.yaml", "version: v2\n")
    ws.write("api/buf.gen.yaml", "version: v2\nplugins:\n- {local: protoc-gen-es, out: gen/es, opt: target=ts}\n")
    ws.write("README.md", "first")
    git(ws, "init", "--quiet")
    git(ws, "add", "README.md")
    git(ws, "commit", "--quiet", "-m", "without a schema")
    schema = "api/shop/v1/price.proto"
    ws.write(schema, SCHEMA)
    first = ws.build()
    assert first.status == 0, first.output
    assert "cents" in ws.read("api/gen/es/shop/v1/price_pb.ts")
    git(ws, "add", "api/shop", "api/buf.yaml")
    git(ws, "commit", "--quiet", "-m", "a schema")
    assert ws.build().ran == ["api:breaking"]
    ws.write(schema, SCHEMA.replace("int64 cents", "string Cents"))
    bad = ws.build()
    assert bad["api:lint"] is bad["api:breaking"] is Outcome.FAILED
    assert 'shop/v1/price.proto:3:17:Field "1" with name "Cents" on message "Price" changed type' in bad.output
    assert "shop/v1/price.proto:3:24:Field name" in bad.output
    ws.write(schema, SCHEMA + "message More {}\n")
    good = ws.build("--build-trace")
    assert good.status == 0, good.output
    excepted = {".git/**": "the commit that is meant is among the step's facts"}
    unmade = {
        "api/LICENSE": "goes with a module that is published",
        "api/README*": "goes with a module that is published",
        "api/buf.md": "goes with a module that is published",
        "api/HEAD": "git asks whether the folder is a repository without a working tree",
    }
    judge(ws, good, "api", steps=("lint", "breaking", "es"), excepted=excepted, unmade=unmade)
