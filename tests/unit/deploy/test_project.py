"""The project's frame: the locks say what pyproject.toml asks for, and make what it can do."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from bench.peers import venvs
from tests.k8s import schemas

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ]+)", re.MULTILINE)


def name_of(text: str) -> str:
    return re.sub(r"[-_.]+", "-", text).lower()


def pins(lock: str) -> dict[str, str]:
    return {name_of(name): version for name, version in PIN.findall(lock)}


def asked_for(*extras: str) -> list[Requirement]:
    texts = list(PROJECT["dependencies"])
    for extra in extras:
        texts += PROJECT["optional-dependencies"][extra]
    return [r for r in map(Requirement, texts) if r.name != "roost"]


@pytest.mark.parametrize(
    ("file", "extras"),
    [
        ("runtime.txt", ()),
        ("dev.txt", tuple(e for e in PROJECT["optional-dependencies"] if "rustic" not in e)),
        ("rustic.txt", ("embedded", "k8s", "metrics", "rustic", "rustic-dev")),
    ],
)
def test_the_lock_pins_what_the_project_asks_for(file, extras):
    pinned = pins((ROOT / "requirements" / file).read_text())
    for requirement in asked_for(*extras):
        version = pinned.get(name_of(requirement.name))
        assert version, f"{requirement.name} is not in {file}: run make lock"
        assert requirement.specifier.contains(version, prereleases=True), "run make lock"


@pytest.mark.parametrize("file", ["runtime.txt", "dev.txt", "rustic.txt"])
def test_the_lock_has_hashes_for_all_and_names_no_place(file):
    lock = (ROOT / "requirements" / file).read_text()
    assert not re.search(r"https?://|file:|--index-url|--find-links|^-|@ ", lock, re.MULTILINE)
    for block in re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in block, block


def test_help_names_the_targets_of_the_contract():
    listed = make("help").stdout
    for target in (
        "demo",
        "test",
        "test-full",
        "test-rustic",
        "check",
        "bench",
        "sim",
        "sim-mutants",
        "proto",
    ):
        assert re.search(rf"^ +make {target} ", listed, re.MULTILINE), target
        assert make("-n", target).returncode == 0


def test_make_alone_shows_the_help():
    assert make().stdout == make("help").stdout


def test_make_replaces_no_environment_that_it_did_not_make(tmp_path):
    (tmp_path / "precious").write_text("")
    result = make("venv", f"VENV={tmp_path}")
    assert result.returncode != 0
    assert "set VENV" in result.stderr
    assert (tmp_path / "precious").exists()


def test_clean_removes_every_environment_made_here_and_none_made_by_others(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    made = [".venv", ".venv-rustic", schemas.FOLDER.name, venvs.FOLDER.name, "mine"]
    for name in (*made, "precious"):
        (tmp_path / name).mkdir()
    (tmp_path / "mine/.made-by-make").touch()
    for venv in ("mine", "precious"):
        done = subprocess.run(["make", "-C", tmp_path, "clean", f"VENV={venv}"], check=False)
        assert done.returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {"Makefile", "precious"}


def test_a_python_that_will_not_do_is_named(tmp_path):
    result = make("venv", f"VENV={tmp_path / 'new'}", "PYTHON=/no/such/python")
    assert result.returncode != 0
    assert "/no/such/python" in result.stderr.splitlines()[0]


def test_without_python_3_13_the_tests_of_rustic_ai_fail_and_say_what_to_set():
    result = make("test-rustic", "PYTHON313=")
    assert result.returncode != 0
    assert "set PYTHON313=" in result.stderr


def test_the_run_of_ci_is_executable():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def make(*args: str) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", *args], cwd=ROOT, env=own, capture_output=True, text=True, timeout=30, check=False
    )
