"""A virtual environment for each peer, made from its pinned and hashed requirements."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
#: Beside the project's own environment, and ignored by git as that is.
FOLDER = HERE.parents[1] / ".venv-peers"


def requirements(peer: str) -> Path:
    """What is installed for ``peer``, with hashes."""
    return HERE / f"requirements-{peer}.txt"


def python_of(peer: str) -> str:
    """The interpreter of the peer's environment, which is made at the first use and whenever the
    requirements have changed. Raises subprocess.CalledProcessError when it cannot be."""
    wanted = hashlib.sha256(requirements(peer).read_bytes() + sys.version.encode()).hexdigest()
    folder = FOLDER / peer
    python, mark = folder / "bin" / "python", folder / ".made-of"
    if mark.is_file() and mark.read_text() == wanted:
        return str(python)
    print(f"setting up {peer} (once; later runs reuse it)", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    options = ["--quiet", "--prefer-binary", "--require-hashes", "--no-deps"]
    subprocess.run([*pip, "install", *options, "-r", str(requirements(peer))], check=True)
    mark.write_text(wanted)
    return str(python)


def version_of(peer: str) -> str:
    """Which release of the peer its pinned requirements name."""
    name = peer.replace("-", "_")
    for line in requirements(peer).read_text().splitlines():
        found = re.match(r"([A-Za-z0-9._-]+)==(\S+)", line)
        if found and found[1].lower().replace("-", "_") == name:
            return found[2]
    return "?"


def lock(peer: str) -> None:
    """Pin and hash the peer's newest release anew; needs uv on PATH."""
    command = [
        "uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11",
        "--generate-hashes", "--no-emit-index-url", "--custom-compile-command",
        "python -m bench.peers --lock", "--upgrade", "-", "-o", str(requirements(peer)),
    ]  # fmt: skip
    subprocess.run(command, input=peer.encode(), check=True)
