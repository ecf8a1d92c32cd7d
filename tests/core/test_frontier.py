"""When may a step run: order, barriers, doom, at sizes that would break recursion."""

from hypothesis import given, settings
from hypothesis import strategies as st

from build_tests.core.frontier import Frontier

DIAMOND = {"top": [], "left": ["top"], "right": ["top"], "bottom": ["left", "right"], "apart": []}


@st.composite
def graphs(draw):
    size = draw(st.integers(1, 12))
    return {
        f"n{i}": draw(st.lists(st.sampled_from([f"n{j}" for j in range(i)]), unique=True, max_size=3)) if i else []
        for i in range(size)
    }


def drain(frontier, choose=lambda ready: ready[0], well=lambda _: True):
    """Run everything; the nodes in the order in which they were taken, with what each doomed."""
    ran = {}
    while len(frontier):
        node = choose(list(frontier.ready()))
        frontier.take(node)
        ran[node] = frontier.settle(node, well=well(node))
    return ran


def descendants(needs, of):
    found = set()
    while more := {node for node, wanted in needs.items() if node not in found and {*wanted} & ({of} | found)}:
        found |= more
    return found


def test_what_needs_nothing_is_ready_and_the_rest_follows():
    frontier = Frontier(DIAMOND)
    assert list(frontier.ready()) == ["top", "apart"]
    frontier.take("top")
    assert list(frontier.ready()) == ["apart"]
    assert frontier.settle("top", well=True) == []
    assert list(frontier.ready()) == ["left", "right", "apart"]
    for side in ("left", "right"):
        assert "bottom" not in frontier.ready()
        frontier.take(side)
        frontier.settle(side, well=True)
    assert list(frontier.ready()) == ["bottom", "apart"]


def test_rank_decides_among_the_ready_and_ties_keep_the_order():
    assert list(Frontier(dict.fromkeys("abcd", ()), {"d": -2.0, "b": -1.0}).ready()) == ["d", "b", "a", "c"]


def test_released_tells_each_node_once():
    frontier = Frontier(DIAMOND)
    assert frontier.released() == ["top", "apart"]
    assert frontier.released() == []
    frontier.settle("top", well=True)
    assert frontier.released() == ["left", "right"]


def test_released_leaves_out_what_was_doomed_meanwhile():
    frontier = Frontier({"a": [], "b": ["a"]}, levels={"a": 0, "b": 1})
    frontier.settle("a", well=False)
    assert "b" not in frontier.released()


def test_a_failing_diamond_dooms_each_node_once_nearest_first():
    frontier = Frontier(DIAMOND)
    assert frontier.settle("top", well=False) == ["left", "right", "bottom"]
    assert frontier.unsettled() == ["apart"]
    assert "bottom" not in frontier


def test_the_second_failure_dooms_nothing_twice():
    frontier = Frontier({"a": [], "b": [], "c": ["a", "b"]})
    assert frontier.settle("a", well=False) == ["c"]
    assert frontier.settle("b", well=False) == []


def test_needs_outside_the_run_count_as_settled():
    assert list(Frontier({"a": ["elsewhere"]}).ready()) == ["a"]


def test_taken_nodes_that_never_began_are_put_back_in_their_place():
    frontier = Frontier(dict.fromkeys("abc", ()))
    frontier.take("a")
    frontier.put_back(["a", "b"])  # b was never taken
    assert list(frontier.ready()) == ["a", "b", "c"]


def test_a_barrier_holds_a_level_back_until_all_below_have_settled():
    frontier = Frontier({"slow": [], "fast": [], "next": ["fast"]}, levels={"slow": 0, "fast": 0, "next": 1})
    frontier.settle("fast", well=True)
    assert list(frontier.ready()) == ["slow"]
    frontier.settle("slow", well=False)
    assert list(frontier.ready()) == ["next"]


def test_a_barrier_lifts_over_levels_that_were_doomed_whole():
    needs = {"a": [], "b": ["a"], "c": [], "d": ["c"]}
    frontier = Frontier(needs, levels={"a": 0, "b": 1, "c": 0, "d": 2})
    frontier.settle("c", well=True)
    assert frontier.settle("a", well=False) == ["b"]
    assert list(frontier.ready()) == ["d"]


@settings(derandomize=True, deadline=None, max_examples=200)
@given(needs=graphs(), data=st.data())
def test_nothing_starts_before_its_needs_and_nothing_is_lost(needs, data):
    bad = data.draw(st.sets(st.sampled_from(sorted(needs))))
    levels = {}
    for node, wanted in needs.items():
        levels[node] = max((levels[need] + 1 for need in wanted), default=0)
    barrier = data.draw(st.booleans())
    frontier = Frontier(needs, levels=levels if barrier else None)
    settled_well, doomed = [], []
    while len(frontier):
        ready = list(frontier.ready())
        assert ready, f"stuck with {frontier.unsettled()}"
        node = data.draw(st.sampled_from(ready))
        assert set(needs[node]) <= set(settled_well)
        if barrier:
            assert levels[node] == min(levels[left] for left in frontier.unsettled())
        frontier.take(node)
        doomed += frontier.settle(node, well=node not in bad)
        if node not in bad:
            settled_well.append(node)
    assert len(doomed) == len(set(doomed))
    ran_badly = bad - set(doomed)
    assert set(doomed) == set().union(*(descendants(needs, node) for node in ran_badly))
    assert {*settled_well, *ran_badly, *doomed} == set(needs)


def test_a_chain_and_a_fan_in_of_thousands_meet_no_recursion():
    chain = {f"n{i}": [f"n{i - 1}"] if i else [] for i in range(3000)}
    assert list(drain(Frontier(chain))) == list(chain)
    assert len(Frontier(chain).settle("n0", well=False)) == 2999
    fan = {**{f"n{i}": [] for i in range(3000)}, "all": [f"n{i}" for i in range(3000)]}
    assert list(drain(Frontier(fan)))[-1] == "all"
    doomed = drain(Frontier(fan), well=lambda node: node != "n7")["n7"]
    assert doomed == ["all"]
