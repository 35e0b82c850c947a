"""What a process that outlives its watchdog does with Kong's pipe."""

from __future__ import annotations

import os

__all__ = ["leave_output"]


def leave_output() -> None:
    """Let Kong see the end of our output: it starts a server anew only after the end of what it reads from there.

    What is written from now on fails.
    Source: https://github.com/Kong/kong/blob/3.9.3/kong/runloop/plugin_servers/process.lua (``grab_logs``).
    """
    reading, writing = os.pipe()
    os.close(reading)
    for output in (1, 2):
        os.dup2(writing, output)
    os.close(writing)
