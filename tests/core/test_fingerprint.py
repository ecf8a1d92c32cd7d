"""What makes two fingerprints differ, in words."""

from build_tests.core.fingerprint import Fingerprint, definition_of, differences
from build_tests.core.model import Step


def fingerprint(**fields):
    return Fingerprint(definition=definition_of(Step(component="app", name="make", kind="command", **fields)))


def reasons(old, new):
    return [str(reason) for reason in differences(old, new)]


def test_a_fact_is_part_of_the_key_and_named_with_what_moved():
    old = fingerprint(facts=(("react in the lockfile", "19.3.0 aa"), ("lodash in the lockfile", "4.0.0 cc")))
    new = fingerprint(facts=(("react in the lockfile", "19.3.1 bb"), ("lodash in the lockfile", "4.0.0 dd")))
    assert old.key() != new.key()
    assert reasons(old, new) == ["lodash in the lockfile changed", "react in the lockfile changed (19.3.0 → 19.3.1)"]
    assert reasons(old, fingerprint(facts=old.definition[-1][1][:1])) == ["lodash in the lockfile changed (4.0.0 → none)"]


def test_who_must_have_run_before_is_no_part_of_the_key():
    assert fingerprint(after=("app:install",)).key() == fingerprint().key()


def test_facts_survive_the_state_file():
    import json

    old = fingerprint(facts=(("a", "1 x"),))
    assert Fingerprint.from_json(json.loads(json.dumps(old.to_json()))) == old
