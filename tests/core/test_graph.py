"""Edges written down and found, what is refused, and orders."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from build_tests.core.errors import ConfigError
from build_tests.core.graph import OutputIndex, build_graph, did_you_mean, parents
from build_tests.core.model import Component, Identity, Output, Step


def step(label, *, inputs=(), outputs=(), **fields):
    component, name = label.split(":")
    made = tuple(o if isinstance(o, Output) else Output(path=o.rstrip("/"), directory=o.endswith("/")) for o in outputs)
    return Step(component=component, name=name, kind="command", path=component, inputs=inputs, outputs=made, **fields)


def refused(*steps, components=()):
    with pytest.raises(ConfigError) as caught:
        build_graph(steps, components)
    return str(caught.value)


@pytest.mark.parametrize(
    ("inputs", "outputs", "named"),
    [
        (("lib/out.txt",), ("lib/out.txt",), ("lib/out.txt",)),
        (("lib/out/one",), ("lib/out/",), ("lib/out",)),
        (("lib/out/",), ("lib/out/",), ("lib/out",)),
        (("lib/out/**/*.js",), ("lib/out/",), ("lib/out",)),
        (("lib/a", "lib/out/x", "lib/out/y"), ("lib/a", "lib/out/"), ("lib/a", "lib/out")),
    ],
)
def test_an_input_in_an_output_is_an_edge_on_that_output(inputs, outputs, named):
    graph = build_graph([step("app:use", inputs=inputs), step("lib:make", outputs=outputs)])
    [edge] = graph.edges["app:use"]
    assert (edge.label, edge.outputs) == ("lib:make", named)
    assert graph.needs == {"app:use": ("lib:make",), "lib:make": ()}
    assert graph.needed_by["lib:make"] == ("app:use",)
    assert graph.order == ("lib:make", "app:use")


@pytest.mark.parametrize(
    ("pattern", "output"),
    [
        ("lib/**", "lib/out/"),  # every other glob never sees outputs
        ("lib/*.txt", "lib/out.txt"),
        ("!lib/out.txt", "lib/out.txt"),
        ("lib/out.txt.bak", "lib/out.txt"),
        ("lib/output/x", "lib/out/"),
        ("lib/out.txt/below", "lib/out.txt"),  # a file owns nothing below it
    ],
)
def test_other_patterns_make_no_edge(pattern, output):
    graph = build_graph([step("app:use", inputs=(pattern,)), step("lib:make", outputs=(output,))])
    assert graph.needs["app:use"] == ()


def test_a_label_and_a_component_can_be_depended_on_and_mean_all_outputs():
    steps = [step("lib:one"), step("lib:two", depends_on=("lib",)), step("app:use", depends_on=("lib:one", "lib"))]
    graph = build_graph(steps, [Component(name="lib", kind="command", path="lib")])
    assert graph.needs == {"lib:one": (), "lib:two": ("lib:one",), "app:use": ("lib:one", "lib:two")}
    assert {edge.outputs for edge in graph.edges["app:use"]} == {None}


def test_an_edge_written_down_covers_those_found_by_path():
    graph = build_graph(
        [step("lib:make", outputs=("lib/o",)), step("app:use", inputs=("lib/o",), depends_on=("lib:make",))]
    )
    assert [edge.outputs for edge in graph.edges["app:use"]] == [None]


def test_what_a_step_only_comes_after_gives_it_no_outputs():
    steps = [step("lib:make", outputs=("lib/o",)), step("app:use", after=("lib:make",))]
    [edge] = build_graph(steps).edges["app:use"]
    assert (edge.label, edge.outputs) == ("lib:make", ())
    both = step("app:use", after=("lib:make",), inputs=("lib/o",))
    [edge] = build_graph([steps[0], both]).edges["app:use"]
    assert edge.outputs == ("lib/o",)


def test_base_images_are_edges_on_who_makes_them():
    image = Output(path="shop/base:dev", identity=Identity.IMAGE)
    graph = build_graph(
        [step("app:image", base_images=("shop/base:dev", "debian:13")), step("base:image", outputs=(image,))]
    )
    [edge] = graph.edges["app:image"]
    assert (edge.label, edge.outputs) == ("base:image", ("shop/base:dev",))


def test_what_a_component_without_steps_gives_is_no_edge():
    graph = build_graph([step("app:use", depends_on=("docs",))], [Component(name="docs", kind="command", path="docs")])
    assert graph.needs["app:use"] == ()


def test_everything_wrong_is_said_at_once():
    message = refused(
        step("a:self", depends_on=("a:self",)),
        step("a:typo", depends_on=("lib:mak",)),
        step("lib:make", outputs=("lib/out/",)),
        step("lib:also", outputs=("lib/out/part",)),
        step("x:one", depends_on=("x:two",)),
        step("x:two", depends_on=("x:three",)),
        step("x:three", depends_on=("x:one",)),
        step("y:own", inputs=("y/out/in.txt",), outputs=("y/out/",)),
        step("y:state", outputs=("y/made/",), state=("y/made/cache",)),
    )
    for part in (
        "step 'a:self' depends on itself: a:self -> a:self",
        "step 'a:typo' depends on 'lib:mak', which is no step and no component",
        "did you mean 'lib:make'?",
        "outputs overlap: 'lib/out/part' of step 'lib:also' and 'lib/out' of step 'lib:make'",
        "the steps depend on each other: x:one -> x:two -> x:three -> x:one",
        "step 'y:own': 'y/out/in.txt' is an input and lies in its own outputs",
        "step 'y:state': state 'y/made/cache' lies in its own outputs",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (("a/o",), ("a/o",)),
        (("a/o/",), ("a/o/",)),
        (("a/o/",), ("a/o",)),
        (("a/o/",), ("a/o/x/y",)),
        (("a/o",), ("a/o/x",)),
    ],
)
def test_overlapping_outputs_are_refused(one, two):
    assert "outputs overlap" in refused(step("a:one", outputs=one), step("a:two", outputs=two))


def test_neighbours_do_not_overlap():
    build_graph([step("a:one", outputs=("a/o/",)), step("a:two", outputs=("a/o2/", "a/o.txt"))])


def test_a_cycle_through_paths_is_found_and_told_once_from_its_first_step():
    message = refused(
        step("p:c", inputs=("p/b",), outputs=("p/c",)),
        step("p:a", inputs=("p/c",), outputs=("p/a",)),
        step("p:b", inputs=("p/a",), outputs=("p/b",)),
        step("p:user", depends_on=("p:a",)),
    )
    assert message.count("depend on each other") == 1
    assert "p:c -> p:b -> p:a -> p:c" in message


def test_closure_dependents_sorted_and_levels():
    graph = build_graph(
        [
            step("d:bottom", depends_on=("d:left", "d:right")),
            step("d:left", depends_on=("d:top",)),
            step("d:right", depends_on=("d:top",)),
            step("d:top"),
            step("d:apart"),
        ]
    )
    assert graph.closure(["d:left"]) == {"d:left", "d:top"}
    assert graph.dependents(["d:left"]) == {"d:left", "d:bottom"}
    assert graph.sorted({"d:bottom", "d:top", "d:apart"}) == ["d:top", "d:bottom", "d:apart"]
    assert graph.levels() == {"d:top": 0, "d:left": 1, "d:right": 1, "d:bottom": 2, "d:apart": 0}


def test_output_index_and_small_helpers():
    index = OutputIndex([step("a:x", outputs=("a/dir/", "a/file"))])
    assert index.owner("a/dir/deep/er")[0] == "a:x"
    assert index.owner("a/file")[1].path == "a/file"
    assert index.owner("a/file/below") is index.owner("a") is None
    assert list(parents("a/b/c")) == ["a/b", "a"]
    assert did_you_mean("shuot", ["shout", "other"]) == "did you mean 'shout'?"
    assert did_you_mean("shout", []) == ""


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.data())
def test_any_acyclic_graph_is_ordered_dependencies_first(data):
    size = data.draw(st.integers(1, 15))
    place = data.draw(st.permutations(range(size)))
    steps = [
        step(
            f"c:n{i}",
            depends_on=tuple(f"c:n{j}" for j in range(size) if place[j] < place[i] and data.draw(st.booleans())),
        )
        for i in range(size)
    ]
    graph = build_graph(steps)
    assert sorted(graph.order) == sorted(graph.steps)
    at = {label: i for i, label in enumerate(graph.order)}
    assert all(at[need] < at[label] for label, needs in graph.needs.items() for need in needs)
    levels = graph.levels()
    assert all(levels[need] < levels[label] for label, needs in graph.needs.items() for need in needs)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.data())
def test_any_cycle_is_refused_with_a_true_path(data):
    size = data.draw(st.integers(2, 8))
    ring = data.draw(st.permutations(range(size)))
    after = dict(zip(ring, [*ring[1:], ring[0]], strict=True))
    message = refused(*(step(f"c:n{i}", depends_on=(f"c:n{after[i]}",)) for i in range(size)))
    path = message.partition("each other: ")[2].split("\n")[0].split(" -> ")
    assert len(path) == size + 1
    assert path[0] == path[-1] == "c:n0"
    assert all(after[int(a[3:])] == int(b[3:]) for a, b in zip(path, path[1:], strict=False))


@pytest.mark.parametrize("forwards", [True, False])
def test_a_chain_of_thousands_meets_no_recursion(forwards):
    steps = [step(f"c:n{i}", inputs=(f"c/{i - 1}",) if i else (), outputs=(f"c/{i}",)) for i in range(3000)]
    graph = build_graph(steps if forwards else reversed(steps))
    assert list(graph.order) == [f"c:n{i}" for i in range(3000)]
    assert len(graph.closure(["c:n2999"])) == len(graph.dependents(["c:n0"])) == 3000
    assert graph.levels()["c:n2999"] == 2999


def test_a_fan_in_of_thousands():
    steps = [step(f"c:n{i}", outputs=(f"c/{i}",)) for i in range(3000)]
    graph = build_graph([step("c:all", inputs=tuple(f"c/{i}" for i in range(3000))), *steps])
    assert len(graph.needs["c:all"]) == 3000
    assert graph.order[-1] == "c:all"


def test_a_cycle_of_thousands_is_told_and_not_overflowed():
    steps = [step(f"c:n{i}", depends_on=(f"c:n{(i + 1) % 2000}",)) for i in range(2000)]
    assert "depend on each other: c:n0 -> c:n1 ->" in refused(*steps)
