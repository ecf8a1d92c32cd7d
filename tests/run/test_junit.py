"""What is added to the file that pytest's own --junitxml wrote."""

import xml.etree.ElementTree as ET

from build_tests.core.model import Outcome
from build_tests.run.junit import add_own_cases
from build_tests.run.record import StepRecord

DOCUMENT = """<testsuites><testsuite>
<testcase classname="command.a" name="a:b"><failure message="name='x'">it printed name="t:unit" and /&gt;</failure></testcase>
<testcase classname="command.t" name="t:unit" time="1" />
</testsuite></testsuites>"""


def test_what_a_step_printed_is_not_taken_for_a_case(tmp_path):
    path = tmp_path / "report.xml"
    path.write_text(DOCUMENT)
    flaky = StepRecord(label="t:unit", kind="command", outcome=Outcome.BUILT, flaky="exit status 1", attempts=2)
    add_own_cases(str(path), [flaky])
    first, second = ET.parse(path).iter("testcase")
    assert first.find("flakyFailure") is None
    assert first.find("failure").text == 'it printed name="t:unit" and />'
    assert second.find("flakyFailure").get("message") == "exit status 1"
