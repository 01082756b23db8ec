"""Validation against Kubernetes' schemas, of the oldest version supported and of the newest.

No kubernetes-validate knows both. The newest is installed beside the tests; the older lives in
an environment of its own, which ``python -m tests.k8s.schemas`` makes (the tests do it too, once,
and fail when it cannot be made).
"""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
REQUIREMENTS = Path(__file__).with_name("schemas.txt")
FOLDER = ROOT / ".venv-k8s-schemas"
OLDEST = "1.24"

_VALIDATE = """
import json, sys
import kubernetes_validate as kv
documents = json.load(sys.stdin)
version = sys.argv[1] or ".".join(kv.latest_version().split(".")[:2])
for document in documents:
    name = document["kind"] + "/" + document["metadata"]["name"]
    try:
        used = kv.validate(document, version, strict=True)
        if used != version:
            print(f"{name}: checked against {used}, not {version}")
    except (kv.ValidationError, kv.SchemaNotFoundError, kv.InvalidSchemaError) as exc:
        print(f"{name}: {exc}".replace(chr(10), " "))
print("version " + version)
"""


def old_python() -> str:
    """The interpreter that knows 1.24, its environment made first if need be.

    Raises RuntimeError that says what failed.
    """
    python, ready = FOLDER / "env/bin/python", FOLDER / "ready"
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists() or ready.read_text() != REQUIREMENTS.read_text():
            ready.unlink(missing_ok=True)
            _run(sys.executable, "-m", "venv", "--clear", str(FOLDER / "env"))
            _run(
                str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                "--no-input", "--require-hashes", "--no-deps", "-r", str(REQUIREMENTS),
            )  # fmt: skip
            ready.write_text(REQUIREMENTS.read_text())
    return str(python)


def problems(documents: list[dict[str, Any]], version: str = "") -> tuple[list[str], str]:
    """(what the schemas of Kubernetes ``version`` say against the documents, the version used).

    "" is the newest version known. Raises RuntimeError when they cannot be asked.
    """
    python = old_python() if version == OLDEST else sys.executable
    out = _run(python, "-c", _VALIDATE, version, stdin=json.dumps(documents))
    *found, last = out.splitlines()
    return found, last.removeprefix("version ")


def _run(*command: str, stdin: str = "") -> str:
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:4])} failed: {done.stderr.strip()[-500:]}")
    return done.stdout


if __name__ == "__main__":
    print(old_python())
