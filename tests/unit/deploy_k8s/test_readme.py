"""deploy/README.md has every section and every command of the seed document."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[3] / "deploy/README.md").read_text()

SECTIONS = (
    "Components", "Deployment", "Building the Docker image", "Verification", "Scaling",
    "Monitoring", "Cleanup", "Configuration", "Architecture", "Security", "Troubleshooting",
)  # fmt: skip
SUBSECTIONS = (
    "1. Namespace (`namespace.yaml`)", "2. Redis (`redis.yaml`)",
    "3. Agent host (`agent-host.yaml`)", "4. HorizontalPodAutoscaler (`hpa.yaml`)",
    "Prerequisites", "Option 1: Deploy with kubectl", "Option 2: Deploy with Kustomize",
    "Manual scaling", "Autoscaling", "Metrics", "Logs", "Redis", "Agent host", "HPA",
    "Agent host pods not starting", "Redis connection issues", "HPA not scaling",
)  # fmt: skip
COMMANDS = """
kubectl apply -f namespace.yaml
kubectl apply -f redis.yaml
kubectl wait --for=condition=ready pod -l app=redis -n rustic-ai --timeout=60s
kubectl apply -f agent-host.yaml
kubectl wait --for=condition=ready pod -l app=agent-host -n rustic-ai --timeout=120s
kubectl apply -f hpa.yaml
kubectl apply -k .
kubectl get all -n rustic-ai
docker build -t rustic-ai/agent-host:latest -f Dockerfile ..
docker tag rustic-ai/agent-host:latest your-registry/rustic-ai/agent-host:latest
docker push your-registry/rustic-ai/agent-host:latest
sed -i 's|rustic-ai/agent-host|your-registry/rustic-ai/agent-host|g' kustomization.yaml
kubectl get pods -n rustic-ai -l app=agent-host
kubectl logs -n rustic-ai -l app=agent-host --tail=50
kubectl get pods -n rustic-ai -l app=redis
kubectl get hpa -n rustic-ai
kubectl exec -n rustic-ai -it deployment/agent-host -- python -c "
kubectl scale deployment agent-host -n rustic-ai --replicas=5
kubectl get hpa agent-host -n rustic-ai --watch
kubectl top pods -n rustic-ai
kubectl logs -n rustic-ai -l app=agent-host --follow
kubectl logs -n rustic-ai -l app=redis --follow
kubectl delete -k .
kubectl delete namespace rustic-ai
kubectl describe pod -n rustic-ai -l app=agent-host
kubectl get pods -n rustic-ai -l app=agent-host -o jsonpath='{.items[0].status.containerStatuses[0].state}'
kubectl logs -n rustic-ai -l app=agent-host
kubectl exec -n rustic-ai deployment/agent-host -- redis-cli -h redis ping
kubectl logs -n rustic-ai -l app=redis
kubectl get apiservice v1beta1.metrics.k8s.io -o yaml
kubectl describe hpa agent-host -n rustic-ai
""".strip().splitlines()  # noqa: E501


@pytest.mark.parametrize("title", SECTIONS)
def test_every_section_of_the_document_is_there(title: str) -> None:
    assert f"\n## {title}\n" in README


@pytest.mark.parametrize("title", SUBSECTIONS)
def test_every_subsection_of_the_document_is_there(title: str) -> None:
    assert f"\n### {title}\n" in README


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_document_is_there_as_it_was(command: str) -> None:
    assert f"\n{command}\n" in README


def test_the_document_s_health_check_is_there_word_for_word() -> None:
    from tests.unit.deploy_k8s.test_image import DOCUMENT_CHECK

    assert f'python -c "{DOCUMENT_CHECK}"' in README


def test_every_block_of_commands_says_what_it_needs() -> None:
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL):
        first = next(line for line in block.splitlines() if not line.startswith("cd "))
        needs = first or block.splitlines()[2]
        assert re.match(r"# (C|D|nothing)\b", needs), block


def test_files_that_the_page_names_exist() -> None:
    here = Path(__file__).parents[3] / "deploy"
    for name in ("k8s", "overlays/local", "overlays/production/alerts.yaml", "Dockerfile", "watch"):
        assert (here / name).exists()
