"""What `init` says of a Dockerfile: the name that others call its image by, and the folder that it copies from."""

import pytest
from build_tests.builders.docker import DockerBuilder

from build_tests.core.workspace import FileWorkspace

WEB = {"web/Dockerfile": "FROM scratch\nCOPY dist /\n", "web/src/a.ts": ""}
USED = "services: {page: {image: team/web:3}, db: {image: postgres}, redis: {image: bitnami/redis:7}}\n"
KIOSK = "FROM team/web:3 AS page\nFROM scratch\nCOPY --from=page /a /\nCOPY services/tax/build/*.jar /\n"


@pytest.fixture
def suggested(tmp_path):
    """The keys for the folder named first, in a repository of these files."""

    def ask(folder, files):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        others = [("docker", name.rpartition("/")[0]) for name in files if name.endswith("Dockerfile")]
        return DockerBuilder.suggest(folder, FileWorkspace(str(tmp_path)), [("go", "services/tax"), *others])

    return ask


@pytest.mark.parametrize(
    ("more", "keys"),
    [
        ({}, {}),
        ({"compose.yaml": USED}, {"image": "team/web:3"}),
        ({"deploy/docker-compose.yml": USED}, {"image": "team/web:3"}),
        ({"kiosk/Dockerfile": KIOSK}, {"image": "team/web:3"}),
        ({"compose.yaml": "services: {web: {image: web}}"}, {}),  # the public image of that name, for all we know
        ({"compose.yaml": "services: {web: , page: {image: 'team/web:${TAG}'}}"}, {}),
        ({"compose.yaml": "services: ["}, {}),
        ({"web/Dockerfile": "FROM team/web:3\n", "compose.yaml": USED}, {}),  # it is a child of that image
        ({"web/Dockerfile": "nothing", "compose.yaml": USED}, {"image": "team/web:3"}),
    ],
)
def test_its_name_is_what_others_call_it(suggested, more, keys):
    assert suggested("web", {**WEB, **more}) == keys


@pytest.mark.parametrize("build", ["web", "{context: ., dockerfile: web/Dockerfile, target: prod}"])
def test_a_compose_file_that_builds_it_says_everything(suggested, build):
    files = {**WEB, "compose.yaml": f"name: team\nservices: {{db: {{image: postgres}}, page: {{build: {build}}}}}\n"}
    assert suggested("web", files) == {"compose": "//compose.yaml", "services": ["page"]}
    assert suggested("web", {**files, "web/compose.yaml": "services: {x: {build: .}}"}) == suggested("web", files)


def test_a_compose_file_beside_it(suggested):
    files = {**WEB, "web/docker-compose.yml": "services: {app: {build: .}, job: {build: {context: ., target: job}}}\n"}
    assert suggested("web", files) == {"compose": "docker-compose.yml", "services": ["app", "job"]}


@pytest.mark.parametrize("name", ["", "image: 'web:${TAG}', "])
def test_one_that_does_not_name_its_image_says_the_rest(suggested, name):
    build = "{context: ., dockerfile: web/Dockerfile, target: prod, args: {A: x, CALLERS: }}"
    files = {**WEB, "compose.yaml": f"services: {{page: {{{name}build: {build}}}}}\n"}
    assert suggested("web", files) == {"context": "//", "target": "prod", "build_args": {"A": "x"}}


def test_where_all_others_are_called_alike_so_is_it(suggested):
    files = {**WEB, "kiosk/Dockerfile": KIOSK, "services/tax/go.mod": "", "api/Dockerfile": "FROM scratch\n"}
    assert suggested("kiosk", files) == {"context": "//"}
    files["compose.yaml"] = "services: {a: {image: team/web:3}, b: {image: team/api:3}}"
    assert suggested("kiosk", files) == {"context": "//", "image": "team/kiosk:3"}
    files["compose.yaml"] = "services: {a: {image: team/web:3}, b: {image: team/api:4}}"
    assert suggested("kiosk", files) == {"context": "//"}


@pytest.mark.parametrize(
    ("copied", "files", "keys"),
    [
        ("dist", {}, {}),  # not made yet
        (".", {}, {}),
        ("dist src", {"dist/a": "", "src/b": ""}, {"context": "//"}),
        ("b/c x", {"a/b/c": ""}, {"context": "//a"}),
        ("pom.xml src", {"a/web/pom.xml": "", "pom.xml": "", "a/web/src/x": "", "src/x": ""}, {}),  # the nearest
        ("dist", {"dist/a": "", "a/web/.dockerignore": ""}, {}),  # docker reads it in the context only
        ("--from=other dist", {"dist/a": ""}, {}),
    ],
)
def test_its_context_is_the_nearest_folder_that_has_what_it_copies(suggested, copied, files, keys):
    assert suggested("a/web", {"a/web/Dockerfile": f"FROM scratch\nCOPY {copied} /\n", **files}) == keys
