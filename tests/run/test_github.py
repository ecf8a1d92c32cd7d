from build_tests.core.model import Outcome
from build_tests.run.github import annotation_lines, folder_of, step_summary
from build_tests.run.record import StepRecord

FAILED = StepRecord(
    label="web:bundle", kind="typescript", outcome=Outcome.FAILED, message="exit status 2", place="web/src/App.tsx:10:5",
    first_error="src/App.tsx(10,5): error TS2322: 100% wrong,\nfrom here: ```ts```",
)  # fmt: skip
FLAKY = StepRecord(
    label="web:test", kind="typescript", outcome=Outcome.BUILT, flaky="exit status 1", attempts=2, message="first build"
)
BLOCKED = StepRecord(label="web-image:image", kind="docker", outcome=Outcome.BLOCKED, message="blocked by web:bundle")


def test_a_failure_stands_at_its_place_and_a_flaky_step_is_a_warning():
    assert list(annotation_lines([FAILED, FLAKY, BLOCKED])) == [
        (
            "::error file=web/src/App.tsx,line=10,col=5,title=web%3Abundle failed"
            "::src/App.tsx(10,5): error TS2322: 100%25 wrong,%0Afrom here: ```ts```"
        ),
        "::warning title=web%3Atest is flaky::passed at attempt 2: exit status 1",
    ]


def test_places_are_told_from_the_repositorys_top(tmp_path):
    folder = folder_of(str(tmp_path / "sub/project"), {"GITHUB_WORKSPACE": str(tmp_path)})
    assert next(annotation_lines([FAILED], folder)).startswith("::error file=sub/project/web/src/App.tsx,line=10")
    assert folder_of(str(tmp_path), {"GITHUB_WORKSPACE": str(tmp_path)}) == ""
    assert folder_of(str(tmp_path), {"GITHUB_WORKSPACE": str(tmp_path / "sub")}) == ""
    assert folder_of(str(tmp_path), {}) == ""


def test_the_page_of_the_run_counts_and_quotes():
    assert step_summary([FAILED, FLAKY, BLOCKED]) == (
        "### Build: 1 built, 1 failed, 1 blocked\n"
        "\n**web:bundle** failed at `web/src/App.tsx:10:5`: exit status 2\n\n"
        "````\nsrc/App.tsx(10,5): error TS2322: 100% wrong,\nfrom here: ```ts```\n````\n"
        "- web:test: flaky, passed at attempt 2 (exit status 1)\n"
        "- web-image:image: blocked (blocked by web:bundle)\n"
    )


def test_only_as_many_as_are_shown():
    failed = [StepRecord(label=f"a:s{at}", kind="command", outcome=Outcome.FAILED, message="x") for at in range(50)]
    assert len(list(annotation_lines(failed))) == 10


def test_a_build_in_a_job_tells_both(build_workspace):
    ws = build_workspace
    ws.components(a={"steps": {"bad": {"command": "echo 'code.c:3:5: error: no' && exit 1", "inputs": ["code.c"]}}})
    ws.write("a/code.c", "x")
    ws.environ |= {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(ws.root / "summary.md")}
    result = ws.build("-n2")
    assert result.status == 1
    assert "\n::error file=a/code.c,line=3,col=5,title=a%3Abad failed::code.c:3:5: error: no\n" in result.output
    assert "run it alone: pytest-build build a:bad" in result.output
    assert "at a/code.c:3:5" in result.output
    assert "**a:bad** failed at `a/code.c:3:5`" in ws.read("summary.md")
