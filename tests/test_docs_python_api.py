import re
import subprocess
import sys
from pathlib import Path

DOCUMENT = Path(__file__).parent.parent / "docs" / "python-api.md"


def test_the_tutorial_is_a_program_that_runs(build_workspace):
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) > 5
    ws = build_workspace
    program = ws.write("tutorial.py", "\n".join(blocks))
    done = subprocess.run(
        [sys.executable, "-P" if sys.version_info >= (3, 11) else "-s", program], cwd=ws.root, env=ws.environ,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
