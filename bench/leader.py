"""A node agent that says it leads, in a process of its own: what shares its process with other work
answers late, and the API would refuse to write."""

from __future__ import annotations

import os
import signal

from tests.support.agent import running_agent

if __name__ == "__main__":
    with running_agent(int(os.environ["BENCH_PORT"])):
        signal.pause()
