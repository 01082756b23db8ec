"""What the Dockerfile promises, read from it; and the small programs that the image carries."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path

import grpc
import pytest

from deploy.app import load_app
from deploy.image import healthcheck, stubs

ROOT = Path(__file__).parents[3]
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text().replace("\\\n", " ")

#: The seed document's check, as it is printed there.
DOCUMENT_CHECK = """
import grpc
from rustic_ai.k8s.proto import agent_host_pb2, agent_host_pb2_grpc
channel = grpc.insecure_channel('localhost:50051')
stub = agent_host_pb2_grpc.AgentHostServiceStub(channel)
request = agent_host_pb2.HealthRequest()
response = stub.Health(request)
print(f'Healthy: {response.healthy}, Agents: {response.agent_count}, Host: {response.hostname}')
"""


def stages() -> list[list[str]]:
    """The instructions of each stage."""
    found: list[list[str]] = []
    for line in DOCKERFILE.splitlines():
        if re.match(r"FROM ", line):
            found.append([])
        if found and re.match(r"[A-Z]+ ", line):
            found[-1].append(re.sub(r"\s+", " ", line).strip())
    return found


def test_the_runtime_is_a_slim_stage_of_its_own_that_compiles_nothing() -> None:
    build, runtime = stages()
    assert build[0].endswith(" AS build")
    assert "-slim" in runtime[0]
    assert not [line for line in runtime if re.search(r"\b(gcc|build-essential|pip)\b", line)]
    assert "COPY --from=build /opt/roost /opt/roost" in runtime


def test_wheels_are_built_once_from_hashed_requirements() -> None:
    text = " ".join(stages()[0])
    assert text.count("pip wheel") == 2  # what it depends on, and Roost itself
    assert "pip wheel --require-hashes" in text
    assert "--no-index" in text


def test_the_container_is_user_1000_has_a_health_check_and_runs_roost_host() -> None:
    runtime = stages()[1]
    assert "USER 1000:1000" in runtime
    assert 'CMD ["roost", "host"]' in runtime
    (check,) = (line for line in runtime if line.startswith("HEALTHCHECK"))
    assert check.endswith('CMD ["python", "-m", "deploy.image.healthcheck"]')
    assert "redis-tools" in " ".join(runtime)  # redis-cli


def test_the_ports_of_the_image_are_those_of_the_manifest() -> None:
    manifest = (ROOT / "deploy/k8s/agent-host.yaml").read_text()
    exposed = next(line for line in stages()[1] if line.startswith("EXPOSE")).split()[1:]
    assert exposed == re.findall(r"containerPort: (\d+)", manifest)


def sources() -> list[str]:
    """What the Dockerfile copies from the build's context."""
    copies = [
        line.split()[1:-1] for stage in stages() for line in stage if re.match("COPY [^-]", line)
    ]
    return [source for copy in copies for source in copy]


def is_ignored(path: str) -> bool:
    """Docker's rule: the last pattern that matches the path, or a folder above it, decides."""
    parts = path.split("/")
    above = ["/".join(parts[: n + 1]) for n in range(len(parts))]
    ignored = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        keep, pattern = pattern.startswith("!"), pattern.removeprefix("!")
        names = [pattern, pattern.removeprefix("**/")] if pattern.startswith("**/") else [pattern]
        if any(fnmatch(part, name) for part in above for name in names):
            ignored = not keep
    return ignored


def test_everything_that_is_copied_exists_and_reaches_the_build() -> None:
    assert len(sources()) >= 8
    for source in sources():
        assert (ROOT / source).exists(), source
        assert not is_ignored(source), source


def test_nothing_else_reaches_the_build() -> None:
    for path in (".git", ".venv", "tests", "docs", "deploy/k8s/redis.yaml", "wire/__pycache__"):
        assert is_ignored(path), path


def test_the_image_s_lock_holds_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + extras["k8s"] + extras["metrics"]
    wanted += (ROOT / "deploy/image/requirements.in").read_text().splitlines()
    names = {re.split(r"[<>=\[ ;]", line)[0] for line in wanted if line and line[0] != "#"}
    locked = re.findall(r"^([\w.-]+)==", (ROOT / "deploy/image/requirements.txt").read_text(), re.M)
    assert {name.lower() for name in names} <= {name.lower() for name in locked}


def test_the_image_s_own_app_loads() -> None:
    assert [kind.__name__ for kind in load_app("deploy.image.app")] == ["Hello"]


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stubs")
    stubs.generate(out)
    return out


#: Serves what the document's check asks, with the very stubs that the image carries.
SERVE = """
import sys
from concurrent.futures import ThreadPoolExecutor
import grpc
from rustic_ai.k8s.proto import agent_host_pb2 as pb, agent_host_pb2_grpc as rpc
class Host(rpc.AgentHostServiceServicer):
    def Health(self, request, context):
        return pb.HealthResponse(healthy=True, agent_count=3, hostname="agent-host-0")
server = grpc.server(ThreadPoolExecutor(2))
rpc.add_AgentHostServiceServicer_to_server(Host(), server)
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
sys.stdin.read()
"""


def test_the_document_s_health_check_works_as_printed(generated: Path) -> None:
    command = [sys.executable, "-c", SERVE]
    environment = {"PYTHONPATH": str(generated), "PATH": "/usr/bin:/bin"}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        done = subprocess.run(
            [sys.executable, "-c", DOCUMENT_CHECK.replace("50051", port)],
            env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        server.communicate("")
    assert done.stdout == "Healthy: True, Agents: 3, Host: agent-host-0\n", done.stderr


def test_the_stubs_share_their_namespace_with_an_installed_rustic_ai(
    generated: Path, tmp_path: Path
) -> None:
    core = tmp_path / "rustic_ai/core"
    core.mkdir(parents=True)
    (core / "__init__.py").write_text("here = True\n")
    program = (
        "import rustic_ai.core, rustic_ai.k8s.proto.agent_host_pb2; print(rustic_ai.core.here)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": f"{tmp_path}:{generated}"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == "True\n", done.stderr


class Health:
    """What a health service answers, as bytes: grpcio's own stubs for it and those that grpclib
    brings cannot be in one process."""

    SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"

    def __init__(self) -> None:
        self.answer = self.SERVING

    def check(self, request: bytes, context: object) -> bytes:
        return self.answer


@pytest.fixture
def health_server() -> Iterator[tuple[int, Health]]:
    server, health = grpc.server(ThreadPoolExecutor(2)), Health()
    methods = {"Check": grpc.unary_unary_rpc_method_handler(health.check)}
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("grpc.health.v1.Health", methods)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port, health
    server.stop(None).wait()


def test_the_health_check_passes_while_the_host_is_alive_and_only_then(
    health_server: tuple[int, Health],
) -> None:
    port, health = health_server
    assert healthcheck.check(port) == ""
    health.answer = Health.NOT_SERVING
    assert healthcheck.check(port) == f"port {port}: not serving"


def test_the_health_check_of_nothing_is_one_line_and_exit_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEALTH_PORT", "1")
    with pytest.raises(SystemExit) as exit_:
        healthcheck.main()
    assert exit_.value.code == 1
    assert capsys.readouterr().err.count("\n") == 1
