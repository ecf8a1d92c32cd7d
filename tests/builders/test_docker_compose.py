"""Kind docker with a Compose file: one step for each service that it builds."""

import shlex

import pytest
from build_tests.builders.docker import DockerBuilder

from build_tests.core.builder import ManifestError
from build_tests.core.graph import build_graph

SHOP = """
name: shop
x-build: &build
  args: {DEBUG: no, RELEASE: 1.10}
services:
  orders:
    image: registry.example/shop/orders:${TAG:-dev}
    build: ./orders
  web:
    build:
      <<: *build
      context: .
      dockerfile: web/Dockerfile
      target: prod
      labels: ["who=me", price=5$$]
      tags: ["shop-web:${RELEASE}"]
      additional_contexts: {base: service:orders, proto: ../proto}
      secrets: [npm, {source: rc, target: npmrc}]
      cache_from: shop-web:cache
      network: host
      no_cache: true
    platform: linux/arm64
  db:
    image: postgres:16
secrets:
  npm: {environment: NPM_TOKEN}
  rc: {file: ./.npmrc}
"""
FILES = {
    "app/compose.yaml": SHOP,
    "app/.env": "# why\nRELEASE='7'\nexport OTHER=x # y\n",
    "app/orders/Dockerfile": "FROM scratch\nCOPY jar /\n",
    "app/web/Dockerfile": "FROM base AS prod\nARG RELEASE\nCOPY web/dist-$RELEASE /\nCOPY --from=proto a.proto /\n",
    "app/.dockerignore": "*\n!web/dist-*\n",
}


def command(step):
    return [word for word in shlex.split(step.command.splitlines()[-1]) if word != "$@"]


def test_each_built_service_is_a_step(planned):
    steps = planned(DockerBuilder, FILES, compose="compose.yaml")
    assert list(steps) == ["orders", "web"]
    assert [output.path for output in steps["orders"].outputs] == ["registry.example/shop/orders:dev"]
    assert [output.path for output in steps["web"].outputs] == ["shop-web:latest", "shop-web:7"]
    assert steps["orders"].inputs == ("app/orders/jar", "app/orders/Dockerfile")
    assert command(steps["orders"])[-3:] == ["--file=orders/Dockerfile", "--label=pytest-build.component=app", "orders"]
    assert command(steps["web"])[2:] == [
        "--tag=shop-web:latest", "--tag=shop-web:7", "--file=web/Dockerfile", "--build-arg=DEBUG=no", "--build-arg=RELEASE=1.10",
        "--build-context=base=docker-image://registry.example/shop/orders:dev", "--build-context=proto=../proto",
        "--label=pytest-build.component=app", "--label=price=5$", "--label=who=me", "--secret=id=npm,env=NPM_TOKEN", "--secret=id=npmrc,src=.npmrc", "--target=prod",
        "--platform=linux/arm64", "--cache-from=shop-web:cache", "--network=host", ".",
    ]  # fmt: skip


def test_inputs_follow_the_arguments_and_a_service_built_on_another_needs_it(planned):
    steps = planned(DockerBuilder, FILES, compose="compose.yaml")
    assert "app/web/dist-1.10" in steps["web"].inputs
    assert "proto/a.proto" in steps["web"].inputs
    assert steps["web"].secrets == ("NPM_TOKEN",)
    assert build_graph(steps.values()).needs["app:web"] == ("app:orders",)


def test_a_dockerfile_in_the_compose_file_is_handed_over(planned):
    text = "services: {a: {image: a, build: {context: src, dockerfile_inline: 'FROM scratch\n\nCOPY x y'}}}"
    (step,) = planned(DockerBuilder, {"app/compose.yaml": text}, compose="compose.yaml").values()
    assert step.inputs == ("app/src/x",)
    assert "printf %s 'FROM scratch\nCOPY x y' | docker build \"$@\" --tag=a:latest --file=- --label=pytest-build.component=app src" in step.command


def test_services_may_be_chosen_and_variables_given(planned):
    steps = planned(DockerBuilder, FILES, compose="compose.yaml", services=("orders",), variables={"TAG": "9"})
    assert list(steps) == ["orders"]
    assert steps["orders"].outputs[0].path == "registry.example/shop/orders:9"


def test_arguments_without_a_value_are_the_callers(planned):
    text = "services: {a: {image: a, build: {context: ., args: [HTTP_VERSION, B=2]}}}"
    files = {"app/compose.yaml": text, "app/Dockerfile": "FROM scratch\nARG HTTP_VERSION B\nCOPY $B /"}
    (step,) = planned(DockerBuilder, files, compose="compose.yaml").values()
    assert {"--build-arg=HTTP_VERSION", "--build-arg=B=2"} <= set(command(step))
    assert "HTTP_VERSION" in step.pass_env
    assert step.inputs == ("app/2", "app/Dockerfile")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("services: {a: {build: .", {}, "app/compose.yaml:1: "),
        ("[1, 2]", {}, "the file is no mapping"),
        ("services: {db: {image: x}}", {}, "has no service with a build section"),
        ("services: {a: {image: a, build: .}}", {"services": ("b",)}, "builds no service 'b'"),
        ("services: {a: {image: 'a:${TAG}', build: .}}", {}, r"service 'a': \$TAG has no value"),
        ("services: {a: {image: a, build: {ulimits: {}}}}", {}, r"build\.ulimits is not known"),
        ("services: {a: {image: a, build: 'https://example.org/r.git'}}", {}, "lies elsewhere"),
        ("services: {a: {image: a, build: ../../x}}", {}, "it leaves the repository"),
        ("services: {a: {image: a, build: {secrets: [s]}}}", {}, "its secret 's' has neither"),
        ("services: {a: {image: a, build: {additional_contexts: [b=service:c]}}}", {}, "there is no service 'c'"),
        ("services: {a: {image: a, build: {platforms: [linux/amd64, linux/arm64]}}}", {}, "one platform"),
        ("services: {a: {image: A, build: .}}", {}, "'A' can't be the name of an image"),
        ("services: " + "[" * 5000, {}, "nested too deeply"),
        ("services: {a: {build: .}}", {"archive": "a.tar"}, "archive and compose don't go together"),
    ],
)
def test_what_says_too_little_is_a_diagnostic(planned, text, options, message):
    with pytest.raises(ManifestError, match=message):
        planned(DockerBuilder, {"app/compose.yaml": text, "app/Dockerfile": "FROM scratch"}, compose="compose.yaml", **options)
