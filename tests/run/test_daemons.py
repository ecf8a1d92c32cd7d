"""Daemons that steps left behind, and their end."""

import os
import select
import subprocess
import sys

from build_tests.run import daemons

DAEMON = "import subprocess, sys; child = subprocess.Popen(['sleep', '600']); print(child.pid, flush=True); child.wait()"


def test_what_a_daemon_started_goes_with_it(tmp_path):
    daemon = subprocess.Popen([sys.executable, "-c", DAEMON, "daemon-of-mine"], stdout=subprocess.PIPE, text=True)
    with daemon:
        child = os.pidfd_open(int(daemon.stdout.readline()))
        listed = str(tmp_path / "daemons")
        daemons.note(listed, [(daemon.pid, "daemon-of-mine")])
        assert daemons.stop(listed) == ["daemon-of-mine"]
        assert daemon.wait(60) != 0
        assert select.select([child], [], [], 60)[0], "the daemon's child is still there"
        os.close(child)
    assert daemons.running(listed) == []
