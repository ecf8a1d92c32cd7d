"""The cases that a step's own tool reported, read from its JUnit files."""

from build_tests.run.cases import collect


def test_what_can_not_be_read_is_passed_over(tmp_path):
    files = {
        "good.xml": b'<testsuite><testcase classname="k.T" name="one" time="0.1"/></testsuite>',
        "half.xml": b"<testsuite><testca",
        "several-bytes.xml": b'<?xml version="1.0" encoding="shift_jis"?><testsuite/>',
        "unknown.xml": b'<?xml version="1.0" encoding="nonsense"?><testsuite/>',
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "dangling.xml").symlink_to("nowhere")
    assert collect(str(tmp_path), ["*.xml"]) == '<testcase classname="k.T" name="one" time="0.1" />'
