"""What a command is said to cost."""

from __future__ import annotations

import subprocess
import sys

# In a process of its own: the measurement waits for every child that there is.
_MEASURE = """
import sys
from pathlib import Path
from bench.measure import cost_of
cost = cost_of(sys.argv[1:], env={"KEPT": "yes"}, cwd=Path("."), timeout=30)
print(cost.wall, cost.cpu)
"""
# Works for a third of a second of processor time.
_BUSY = "import time\nwhile time.process_time() < 0.3: pass"


def measured(*argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _MEASURE, *argv]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_work_of_a_process_that_its_parent_left_behind_counts() -> None:
    orphan = f'{sys.executable} -c "$0" & test "$KEPT" = yes'
    done = measured("sh", "-c", orphan, _BUSY)
    assert done.returncode == 0, done.stderr
    wall, cpu = map(float, done.stdout.split())
    assert cpu >= 0.3
    assert wall >= 0.0


def test_a_command_that_fails_is_no_measurement() -> None:
    done = measured("sh", "-c", "echo the reason; exit 3")
    assert done.returncode != 0
    assert "code 3\nthe reason" in done.stderr
