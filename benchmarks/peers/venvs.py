"""An environment of its own for each peer: ``.peers/NAME``, from the pins in ``NAME.txt`` beside this file.

    python venvs.py NAME...

Prints each one's folder. It is made when missing, and anew when the pins or the Python have changed. Only what is
pinned is installed, and that it is complete is checked.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent / ".peers"


def make(name: str) -> Path:
    """The folder of a peer's environment; ready when this returns."""
    pins, folder = HERE / f"{name}.txt", ROOT / name
    ready, wanted = folder / "ready", f"{sys.version}\n{pins.read_text(encoding='utf-8')}"
    if ready.exists() and ready.read_text(encoding="utf-8") == wanted:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    for command in (["install", "--quiet", "--no-deps", "--requirement", str(pins)], ["check"]):
        done = subprocess.run(
            [folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check", *command],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"pip {command[0]} for {name} failed:\n{done.stdout}{done.stderr}")
    ready.write_text(wanted, encoding="utf-8")
    return folder


if __name__ == "__main__":
    for peer in sys.argv[1:]:
        print(make(peer))
