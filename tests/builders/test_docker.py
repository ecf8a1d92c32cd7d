"""Kind docker: what a Dockerfile says goes into its image."""

import os
import re
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from build_tests.builders.docker import DockerBuilder, DockerOptions

from build_tests.core.builder import Component, Identity, ManifestError, Output
from build_tests.core.errors import ConfigError
from build_tests.core.globs import matches
from build_tests.core.graph import build_graph
from build_tests.core.model import Step, StepOverride
from build_tests.core.workspace import FileWorkspace
from build_tests.project import load_project
from build_tests.run.images import Engine, Unavailable


def component(name="web-image", path="web", **options):
    return Component(name=name, kind="docker", path=path, options=DockerOptions(**options))


MADE = "--label=pytest-build.component=web-image"
"""By which `clean` knows the image."""

@pytest.fixture
def plan(tmp_path):
    """Plans one component over files given by name; gives its only step."""

    def plan(files, *others, path="web", **options):
        for name, text in files.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        subject = component(path=path, **options)
        (step,) = DockerBuilder().plan(subject, FileWorkspace(str(tmp_path), (*others, subject)))
        return step

    return plan


def command(step):
    """The words of `docker build` in the step's script."""
    (line,) = [line for line in step.command.splitlines() if line.startswith("docker build ")]
    return [word for word in shlex.split(line) if word != "$@"]


def dockerfile(*lines):
    return {"web/Dockerfile": "\n".join(lines) + "\n"}


def test_the_step_builds_one_image(plan):
    step = plan(dockerfile("FROM base:1", "COPY dist /www"), image="shop/web:1")
    assert step.label == "web-image:image"
    assert command(step) == ["docker", "build", "--tag=shop/web:1", "--file=Dockerfile", MADE, "."]
    assert step.path == "web"
    assert step.outputs == (Output(path="shop/web:1", identity=Identity.IMAGE),)
    assert step.inputs == ("web/dist", "web/Dockerfile")
    assert step.base_images == ("base:1",)
    assert dict(step.resources.other) == {"docker": 1}
    assert [tool.name for tool in step.tools] == ["docker"]


def test_without_a_tag_an_image_is_the_latest(plan):
    step = plan(dockerfile("FROM base"), image="registry.example:5000/shop/web")
    assert step.outputs[0].path == "registry.example:5000/shop/web:latest"
    assert step.base_images == ("base:latest",)


def test_an_image_that_docker_could_not_name_is_refused(plan):
    with pytest.raises(ManifestError, match="'Shop/Web' can't be the name of an image"):
        plan(dockerfile("FROM base"), image="Shop/Web")


def test_options_reach_docker_in_an_order_of_their_own(plan):
    step = plan(
        {"web/docker/prod.Dockerfile": "ARG B\nFROM base:$B AS first\nCOPY src /src\nFROM first AS last\n"},
        dockerfile="docker/prod.Dockerfile",
        context="//",
        build_args={"B": "2", "A": "x y"},
        target="first",
    )
    assert command(step)[2:] == [
        "--tag=web-image:latest",
        "--file=docker/prod.Dockerfile",
        "--build-arg=A=x y",
        "--build-arg=B=2",
        MADE,
        "--target=first",
        "..",
    ]
    assert step.inputs == ("src", "web/docker/prod.Dockerfile")
    assert step.base_images == ("base:2",)


@pytest.mark.parametrize(
    ("lines", "sources"),
    [
        (["COPY a.txt b/ /dst/"], ["web/a.txt", "web/b"]),
        (["COPY --chown=1:1 --link ./a.txt /dst"], ["web/a.txt"]),
        (['COPY ["a b.txt", "/dst"]'], ["web/a b.txt"]),
        (["copy a.txt \\", "  # why b", "  b.txt \\", "", "  /dst"], ["web/a.txt", "web/b.txt"]),
        (["COPY . /dst"], ["web/**"]),
        (["COPY ../a.txt /dst"], ["web/a.txt"]),
        (["COPY /a.txt /dst"], ["web/a.txt"]),
        (["COPY *.json [^a]*.js /dst"], ["web/*.json", "web/*.json/**", "web/[!a]*.js", "web/[!a]*.js/**"]),
        (["ADD https://example.org/x.tgz rootfs.tar /"], ["web/rootfs.tar"]),
        (["COPY <<EOF /etc/motd", "COPY not-a-file /", "EOF", "COPY a.txt /"], ["web/a.txt"]),
        (["RUN echo $((1 << 3))", "COPY a.txt /"], ["web/a.txt"]),
        (["ARG DIR=out", "COPY ${DIR}/a.txt $DIR/b.txt /"], ["web/out/a.txt", "web/out/b.txt"]),
        (["ARG NO", "ENV DIR=out", "COPY ${DIR:-x}/a ${NO:-y}/a ${DIR:+z}/a /"], ["web/out/a", "web/y/a", "web/z/a"]),
        (["ENV DIR out", "COPY $DIR/a /"], ["web/out/a"]),
        (["ARG TARGETARCH", "COPY bin/linux-$TARGETARCH/app /"], ["web/bin"]),
        (["RUN --mount=type=bind,source=lib,target=/lib --mount=type=cache,target=/c make"], ["web/lib"]),
        (["RUN --mount=target=/src make"], ["web/**"]),
        (["RUN make", 'CMD ["x"]'], []),
        (["COPY --parents src/**/x.ts /"], ["web/src"]),
        (["COPY --exclude=*.log src /"], ["web/src"]),
        (["COPY <<robots.txt <<-'other' /www/", "COPY a /", "robots.txt", "\tother", "COPY b /"], ["web/b"]),
        (["RUN <<EOF", "COPY a /", "EOF", "COPY b /"], ["web/b"]),
        (["RUN cat <<EOF >/x; cat <<END", "EOF", "COPY a /", "END", "COPY b /"], ["web/b"]),
        (["COPY <<-EOF /x", "COPY a /", "\tEOF", "COPY b /"], ["web/b"]),
        (["ENV A=1 B='x $A' C=\"d e/$A\"", "COPY $A '$A' /"], ["web/1", "web/$A"]),
        (["ARG A=one", "ENV A=two", "COPY $A /"], ["web/two"]),
        (["ARG A=x B=${A}y", "COPY ${B#x} $B /"], ["web/**", "web/xy"]),
        (["COPY \\", "# a comment", "", "   # another", "a.txt \\  ", "/dst"], ["web/a.txt"]),
        (["RUN echo \\\\", "COPY a /"], ["web/a"]),
        (["ONBUILD COPY . /", "COPY a /"], ["web/a"]),
        (["ADD git@github.com:o/r.git ssh://h/r git://h/r https://h/a.tgz local.tgz /"], ["web/local.tgz"]),
        (["RUN --mount=src=a,type=bind,dst=/a --mount=type=secret,id=s --mount=type=tmpfs,target=/t x"], ["web/a"]),
    ],
)
def test_what_copy_names_is_an_input(plan, lines, sources):
    assert list(plan(dockerfile("FROM base:1", *lines)).inputs) == [*sources, "web/Dockerfile"]


@pytest.mark.parametrize(
    ("lines", "images"),
    [
        (["FROM scratch"], []),
        (["FROM --platform=$BUILDPLATFORM node:20 AS build", "FROM Build", "COPY --from=build /a /a"], ["node:20"]),
        (["FROM node:20", "FROM scratch", "COPY --from=0 /a /a", "COPY --from=tools:2 /b /b"], ["node:20", "tools:2"]),
        (["ARG V=20", "FROM node:$V", "FROM node:${V}-slim", "COPY --from=0 /a /"], ["node:20", "node:20-slim"]),
        (["FROM a:1 AS one", "FROM b:1 AS two", "FROM scratch", "COPY --from=two /x /"], ["b:1"]),
        (["ARG V", "FROM node:${V:-18}"], ["node:18"]),
        (["ARG V=${W:-3}", "FROM node:${V}", "ARG V", "COPY --from=tools:$V /a /"], ["node:3", "tools:3"]),
        (["# syntax=docker/dockerfile:1", "# escape=`", "FROM a:1", "ENV P=C:\\", "FROM b:1"], ["b:1"]),
        (["# a comment first", "# escape=`", "FROM a:1", "COPY x \\", " y /"], ["a:1"]),
        (["FROM a:1 AS one", "FROM one AS two", "FROM two"], ["a:1"]),
        (["FROM a:1 AS x", "FROM b:1 AS x", "FROM x"], ["b:1"]),
        (["# escape=`", "FROM `", "  base:1"], ["base:1"]),
        (["FROM base:1", "RUN --mount=type=bind,from=tools:3,target=/t x"], ["base:1", "tools:3"]),
        (["FROM base@sha256:" + "0" * 64], ["base@sha256:" + "0" * 64]),
        (["FROM base:1", "FROM base:1"], ["base:1"]),
    ],
)
def test_what_from_names_is_a_base_image(plan, lines, images):
    assert list(plan(dockerfile(*lines)).base_images) == images


def test_files_of_another_stage_are_no_inputs(plan):
    step = plan(dockerfile("FROM node:20 AS build", "COPY src /src", "FROM base:1", "COPY --from=build /dist /www"))
    assert step.inputs == ("web/src", "web/Dockerfile")


def test_a_stage_that_the_target_does_not_need_does_not_count(plan):
    step = plan(
        dockerfile(
            "FROM a:1 AS base", "COPY base /", "FROM base AS dev", "COPY . /", "FROM b:1 AS test", "COPY tests /",
            "FROM base AS prod", "COPY dist /", "COPY --from=2 /report /",
        ),
        target="prod",
    )  # fmt: skip
    assert step.inputs == ("web/base", "web/tests", "web/dist", "web/Dockerfile")
    assert step.base_images == ("a:1", "b:1")
    assert plan(dockerfile("FROM a:1", "COPY x /", "FROM b:1", "COPY y /"), target="0").base_images == ("a:1",)


def test_what_a_stage_keeps_for_those_on_it_is_done_there(plan):
    step = plan(dockerfile("FROM a:1 AS base", "ENV D=src", "ONBUILD COPY $D /src", "FROM base", "COPY $D/x /x"))
    assert step.inputs == ("web/src", "web/src/x", "web/Dockerfile")


def test_named_contexts_are_folders_or_images(plan):
    step = plan(
        dockerfile("FROM base", "COPY --from=Proto shop.proto /", "COPY --from=tools /x /", "RUN --mount=from=proto,src=v1 x"),
        contexts={"base": "docker-image://shop/base", "proto": "//proto", "tools": "docker-image://tools:1"},
    )  # fmt: skip
    assert step.inputs == ("proto/shop.proto", "proto/v1", "web/Dockerfile")
    assert step.base_images == ("shop/base:latest", "tools:1")
    assert "--build-context=proto=../proto" in command(step)
    assert "--build-context=base=docker-image://shop/base" in command(step)


def test_every_other_option_reaches_docker(plan):
    step = plan(
        dockerfile("FROM a:1"),
        image="web:1",
        aliases=("web:latest", "registry.example/web:1"),
        labels={"b": "2", "a": "x y"},
        secrets={"token": "NPM_TOKEN", "npmrc": "./.npmrc"},
        platform="linux/arm64",
        cache_from=("web:cache",),
        arguments=("--network=host",),
    )
    assert command(step)[2:] == [
        "--tag=web:1", "--tag=web:latest", "--tag=registry.example/web:1", "--file=Dockerfile", MADE, "--label=a=x y", "--label=b=2",
        "--secret=id=npmrc,src=.npmrc", "--secret=id=token,env=NPM_TOKEN", "--platform=linux/arm64", "--cache-from=web:cache",
        "--network=host", ".",
    ]  # fmt: skip
    assert [output.path for output in step.outputs] == ["web:1", "web:latest", "registry.example/web:1"]
    assert step.secrets == ("NPM_TOKEN",)
    assert {"DOCKER_BUILDKIT", "DOCKER_DEFAULT_PLATFORM"} <= set(step.pass_env)


def test_stages_after_the_target_do_not_count(plan):
    step = plan(dockerfile("FROM a:1 AS one", "COPY x /", "FROM b:1 AS two", "COPY y /"), target="one")
    assert step.inputs == ("web/x", "web/Dockerfile")
    assert step.base_images == ("a:1",)


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        ([], {}, "web/Dockerfile has no FROM"),
        (["# nothing", "ARG V", "FROM node:$V"], {}, r"web/Dockerfile:3: the image of FROM node:\$V is not known"),
        (["FROM a:1 AS one"], {"target": "two"}, "web/Dockerfile has no stage 'two'"),
    ],
)
def test_a_dockerfile_that_says_too_little_is_a_diagnostic(plan, lines, options, message):
    with pytest.raises(ManifestError, match=message):
        plan(dockerfile(*lines), **options)


def test_a_missing_dockerfile_is_a_diagnostic(plan):
    with pytest.raises(ManifestError, match="web/Dockerfile is missing"):
        plan({})


def chosen(step, *paths):
    return [path for path in paths if matches(step.inputs, path)]


def test_what_dockerignore_takes_away_is_no_input(plan):
    step = plan(
        {
            **dockerfile("FROM base:1", "COPY . /app"),
            "web/.dockerignore": "# comment\n\nnode_modules\n/docs/\n**/*.log\n*.tmp\n!keep.tmp\nDockerfile\n",
        }
    )
    kept = ("web/src/a.ts", "web/keep.tmp", "web/Dockerfile", "web/.dockerignore", "web/src/docs/a", "web/src/a.tmp")
    gone = ("web/node_modules/a/b.js", "web/docs/a/b.md", "web/a.log", "web/src/x/a.log", "web/a.tmp", "web/d.tmp/x")
    assert chosen(step, *kept, *gone, "orders/a") == list(kept)


def test_a_context_may_let_in_just_what_is_copied(plan):
    step = plan(
        {
            **dockerfile("FROM base:1", "COPY target/app.jar /app.jar", "COPY conf /conf"),
            "web/.dockerignore": "*\n!target\n!conf/*.yml\n!notes\n",
        }
    )
    kept = ("web/target/app.jar", "web/conf/a.yml")
    gone = ("web/target/app-sources.jar", "web/conf/a.txt", "web/notes/a.txt", "web/src/a.kt")
    assert chosen(step, *kept, *gone) == list(kept)


def test_a_folder_that_is_let_in_is_narrowed_to_what_is_copied(plan):
    step = plan(
        {**dockerfile("FROM base:1", "COPY lib/python3*/google /app"), "web/.dockerignore": "*\n!lib\n"},
    )
    assert chosen(step, "web/lib/python3.12/google/a.py", "web/lib/python3.12/pip/a.py") == [
        "web/lib/python3.12/google/a.py"
    ]


def test_a_dockerignore_of_the_dockerfiles_own_name_comes_first(plan):
    step = plan(
        {
            **dockerfile("FROM base:1", "COPY . /app"),
            "web/Dockerfile.dockerignore": "a\n",
            "web/.dockerignore": "b\n",
        }
    )
    assert chosen(step, "web/a", "web/b", "web/Dockerfile.dockerignore") == ["web/b", "web/Dockerfile.dockerignore"]


def test_what_another_step_makes_is_an_edge(plan):
    bundle = Step(component="web", name="bundle", kind="typescript", outputs=(Output(path="web/dist", directory=True),))
    install = Step(
        component="web",
        name="install",
        kind="typescript",
        outputs=(Output(path="web/node_modules", directory=True, identity=Identity.INSTALLED),),
    )
    base = Step(component="base", name="import", kind="command", outputs=(Output(path="b:1", identity=Identity.IMAGE),))
    image = plan({**dockerfile("FROM b:1", "COPY dist /www"), "web/.dockerignore": "*\n!dist\n"})
    graph = build_graph([bundle, install, base, image])
    assert sorted(graph.needs[image.label]) == ["base:import", "web:bundle"]


def step_with(label, *outputs, inputs=()):
    name, _, step = label.partition(":")
    return Step(component=name, name=step, kind="command", path=name, inputs=inputs, outputs=outputs, command=("true",))


def test_a_copy_of_the_whole_folder_needs_all_that_others_make_in_it(plan):
    """Docker copies what lies there: in a fresh clone and after a build that must be the same."""
    others = [
        step_with("web:bundle", Output(path="web/dist", directory=True)),
        step_with("web:install", Output(path="web/node_modules", directory=True, identity=Identity.INSTALLED)),
        step_with("web:report", Output(path="web/out/report.xml")),
        step_with("proto:ts", Output(path="web/gen/ts", directory=True)),
        step_with("orders:jar", Output(path="orders/target", directory=True)),
    ]
    image = plan({**dockerfile("FROM b:1", "COPY . /app"), "web/.dockerignore": "node_modules\nout\n!out/*.txt\n"})
    assert sorted(build_graph([*others, image]).needs[image.label]) == ["proto:ts", "web:bundle"]
    everything = plan({**dockerfile("FROM b:1", "COPY . /app"), "web/.dockerignore": ""})
    needs = sorted(build_graph([*others, everything]).needs[image.label])
    assert needs == ["proto:ts", "web:bundle", "web:install", "web:report"]
    few = plan({**dockerfile("FROM b:1", "COPY gen /gen"), "web/.dockerignore": "*\n!gen/ts/*.ts\n"})
    assert build_graph([*others, few]).needs[image.label] == ("proto:ts",)


def test_an_image_that_copies_what_is_made_of_it_is_told_what_to_do(plan):
    image = plan(dockerfile("FROM b:1", "COPY . /app"), image="web:1")
    scan = step_with("scan:run", Output(path="web/report.txt"))
    scan = replace(scan, base_images=("web:1",))
    with pytest.raises(ConfigError) as raised:
        build_graph([image, scan])
    (told,) = raised.value.diagnostics
    assert told.message == "the steps depend on each other: web-image:image -> scan:run -> web-image:image"
    assert told.hint.startswith("'web-image:image' copies whatever lies in its context")


def test_an_image_is_known_by_its_reference_with_or_without_the_tag(plan):
    made = StepOverride(name="import", fields=(("outputs", (Output(path="base", identity=Identity.IMAGE),)),))
    maker = Component(name="base", kind="command", path="base", steps=(made,))
    step = plan(dockerfile("FROM base:latest"), maker)
    assert step.base_images == ("base",)


def test_a_folder_with_a_dockerfile_is_found(tmp_path):
    (tmp_path / "web").mkdir()
    (tmp_path / "web/Dockerfile").write_text("FROM scratch\n")
    workspace = FileWorkspace(str(tmp_path))
    assert DockerBuilder.detect("web", workspace)
    assert not DockerBuilder.detect("", workspace)


def test_what_the_documentation_shows_is_understood(tmp_path):
    text = (Path(__file__).parents[2] / "docs/docker.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 3
    for name in ("web/Dockerfile", "services/api/Dockerfile", "orders/Dockerfile"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("FROM scratch AS prod\n")
    (tmp_path / "web/package.json").write_text('{"name": "web"}')
    (tmp_path / "web/package-lock.json").write_text('{"name": "web", "lockfileVersion": 3, "packages": {"": {"name": "web"}}}')
    (tmp_path / "compose.yaml").write_text("services: {orders: {image: orders, build: ./orders}, db: {image: postgres}}")
    labels = []
    for block in blocks:
        (tmp_path / "build.yml").write_text(block)
        labels += load_project(str(tmp_path / "build.yml")).graph.order
    assert labels == ["web:install", "web-image:image", "api:image", "api:archive", "shop:orders"]


@pytest.mark.real("docker")
def test_docker_makes_of_the_command_what_the_step_promises(plan, tmp_path):
    engine = Engine.connect(os.environ)
    if isinstance(engine, Unavailable):
        if os.environ.get("CI"):
            pytest.fail(engine.reason)
        pytest.skip(engine.reason)
    step = plan(
        {
            **dockerfile("ARG WHO=nobody", "FROM scratch", "ARG WHO", "LABEL who=$WHO", "COPY dist /www", 'CMD ["x"]'),
            "web/dist/index.html": "hello",
            "web/.dockerignore": "*\n!dist\n",
        },
        image=f"pytest-build-test/web:{os.getpid()}",
        build_args={"WHO": "a 'quoted' name"},
    )
    reference = step.outputs[0].path
    environment = {**os.environ, **dict(step.env)}
    subprocess.run(["sh", "-ec", step.command], cwd=tmp_path / step.path, env=environment, check=True, capture_output=True)
    show = ["docker", "image", "inspect", "--format={{.Config.Labels.who}}", reference]
    try:
        assert subprocess.run(show, check=True, capture_output=True, text=True).stdout.strip() == "a 'quoted' name"
        assert engine.identities([reference])[reference] is not None
    finally:
        subprocess.run(["docker", "image", "rm", "--force", reference], check=True, capture_output=True)
