"""The same command several times, as a supervisor would have it: ``python together.py TIMES PROGRAM ARGUMENT...``.

For workers that use one core each. ``{}`` in an argument becomes the number of the process. When one ends, all do.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path


def main() -> None:
    """Start them, hand SIGTERM on, wait."""
    times, program, *arguments = sys.argv[1:]
    command = [str(Path(sys.executable).parent / program), *arguments]
    group = [subprocess.Popen([part.replace("{}", str(number)) for part in command]) for number in range(int(times))]

    def hand_on(*_: object) -> None:
        for process in group:
            process.terminate()

    signal.signal(signal.SIGTERM, hand_on)
    os.wait()
    hand_on()
    for process in group:
        process.wait()


if __name__ == "__main__":
    main()
