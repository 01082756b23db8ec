"""The manifests against the seed document, against Kubernetes' schemas, and against themselves.

The facts of the document stand here as constants, so that the test needs no other file.
"""

from __future__ import annotations

import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.k8s import schemas
from tests.k8s.rendering import (
    BASE,
    FILES,
    OVERLAYS,
    Objects,
    Raw,
    container,
    environment,
    plain,
    rendered,
)

NAMESPACE = "rustic-ai"
FOLDERS = {
    "base": BASE,
    "local": OVERLAYS / "local",
    "production": OVERLAYS / "production",
}


@cache
def objects_of(name: str) -> Objects:
    return rendered(FOLDERS[name])


@pytest.fixture(scope="module")
def base() -> Objects:
    return objects_of("base")


@pytest.fixture(scope="module")
def production() -> Objects:
    return objects_of("production")


def pod_of(objects: Objects, deployment: str) -> Raw:
    return objects["Deployment", deployment]["spec"]["template"]["spec"]  # type: ignore[no-any-return]


# Kubernetes' own judgement ---------------------------------------------------------------


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("version", [schemas.OLDEST, ""], ids=["1.24", "newest"])
def test_manifests_are_valid_for_the_oldest_and_the_newest_kubernetes(
    name: str, version: str
) -> None:
    found, used = schemas.problems(list(objects_of(name).values()), version)
    assert found == []
    assert used == version or (not version and int(used.split(".")[1]) >= 37)


def test_the_schemas_would_notice_a_misspelt_field(base: Objects) -> None:
    wrong = dict(base["Service", "redis"], spec={"prots": []})
    for version in (schemas.OLDEST, ""):
        found, _ = schemas.problems([wrong], version)
        assert len(found) == 1
        assert "prots" in found[0]


def test_applying_the_files_one_by_one_makes_what_the_kustomization_makes(base: Objects) -> None:
    """So either way may come first on one cluster: nothing is renamed, and no label is added."""
    assert plain(*(BASE / file for file in FILES)) == base


def test_selectors_hold_the_document_s_labels_and_no_more(base: Objects) -> None:
    for name in ("redis", "agent-host"):
        for folder in FOLDERS:
            objects = objects_of(folder)
            assert objects["Deployment", name]["spec"]["selector"] == {"matchLabels": {"app": name}}
            assert objects["Service", name]["spec"]["selector"] == {"app": name}
        labels = base["Deployment", name]["spec"]["template"]["metadata"]["labels"]
        assert labels["app"] == name


def test_the_document_s_sed_puts_the_registry_in(tmp_path: Path) -> None:
    shutil.copytree(BASE, tmp_path / "k8s")
    file = tmp_path / "k8s/kustomization.yaml"
    # sed -i 's|rustic-ai/agent-host|your-registry/rustic-ai/agent-host|g' kustomization.yaml
    file.write_text(
        re.sub("rustic-ai/agent-host", "your-registry/rustic-ai/agent-host", file.read_text())
    )
    image = container(rendered(tmp_path / "k8s"), "agent-host")["image"]
    assert image == "your-registry/rustic-ai/agent-host:latest"


# The document, section by section --------------------------------------------------------


def test_namespace(base: Objects) -> None:
    assert ("Namespace", NAMESPACE) in base
    for (kind, _), raw in base.items():
        assert kind == "Namespace" or raw["metadata"]["namespace"] == NAMESPACE


def test_redis_has_one_replica_a_cluster_ip_and_256_mb_with_lru(base: Objects) -> None:
    assert base["Deployment", "redis"]["spec"]["replicas"] == 1
    service = base["Service", "redis"]["spec"]
    assert service["type"] == "ClusterIP"
    assert service.get("clusterIP") != "None"
    assert [port["port"] for port in service["ports"]] == [6379]
    config = base["ConfigMap", "redis-config"]["data"]["redis.conf"]
    assert "\nmaxmemory 256mb\n" in config
    assert "\nmaxmemory-policy volatile-lru\n" in config


def test_what_the_document_says_may_be_configured_in_redis_is_in_the_config_map(
    base: Objects,
) -> None:
    text = "".join(base["ConfigMap", "redis-config"]["data"].values())
    for setting in ("maxmemory", "maxmemory-policy", "save"):
        assert re.search(rf"^{setting} ", text, re.MULTILINE)


def test_redis_resources(base: Objects) -> None:
    assert container(base, "redis")["resources"] == {
        "requests": {"cpu": "100m", "memory": "128Mi"},
        "limits": {"cpu": "500m", "memory": "512Mi"},
    }


def test_redis_probes_use_redis_cli_ping(base: Objects) -> None:
    for probe in ("livenessProbe", "readinessProbe"):
        command = " ".join(container(base, "redis")[probe]["exec"]["command"])
        assert "redis-cli ping" in command


def test_service_account_role_and_binding_only_read_endpoints_and_pods(base: Objects) -> None:
    assert pod_of(base, "agent-host")["serviceAccountName"] == "agent-host"
    assert ("ServiceAccount", "agent-host") in base
    rules = base["Role", "agent-host"]["rules"]
    may = {(group, res) for r in rules for group in r["apiGroups"] for res in r["resources"]}
    assert may == {("", "endpoints"), ("", "pods"), ("discovery.k8s.io", "endpointslices")}
    assert {verb for r in rules for verb in r["verbs"]} == {"get", "list", "watch"}
    binding = base["RoleBinding", "agent-host"]
    assert binding["roleRef"]["name"] == "agent-host"
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "agent-host", "namespace": NAMESPACE}
    ]


def test_three_agent_hosts_behind_a_headless_service(base: Objects) -> None:
    assert base["Deployment", "agent-host"]["spec"]["replicas"] == 3
    assert container(base, "agent-host")["image"] == "rustic-ai/agent-host:latest"
    service = base["Service", "agent-host"]["spec"]
    assert (service["type"], service["clusterIP"]) == ("ClusterIP", "None")
    assert [port["port"] for port in service["ports"]] == [50051]
    # Published while not ready, every pod would look ready to the watch.
    assert not service.get("publishNotReadyAddresses")


def test_agent_host_resources(base: Objects) -> None:
    assert container(base, "agent-host")["resources"] == {
        "requests": {"cpu": "500m", "memory": "1Gi"},
        "limits": {"cpu": "4000m", "memory": "8Gi"},
    }


def test_the_environment_table(base: Objects) -> None:
    env = environment(base)
    assert env["REDIS_URL"].startswith("redis://redis:6379")
    assert env["GRPC_PORT"] == "50051"
    assert env["MAX_PROCESSES"] == "100"
    assert env["HEARTBEAT_INTERVAL"] == "20"
    assert env["HOSTNAME"] == {"fieldRef": {"fieldPath": "metadata.name"}}


def test_probes_use_the_grpc_health_rpc_and_tell_alive_from_ready(base: Objects) -> None:
    host = container(base, "agent-host")
    ports = {port["name"]: port["containerPort"] for port in host["ports"]}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert host[probe]["grpc"]["port"] == ports["health"]
    assert str(ports["health"]) == environment(base)["HEALTH_PORT"]
    assert host["livenessProbe"]["grpc"]["service"] == "roost.alive"
    assert host["readinessProbe"]["grpc"]["service"] == "roost.ready"


def test_the_start_that_the_probe_allows_includes_the_wait_for_redis(base: Objects) -> None:
    probe = container(base, "agent-host")["startupProbe"]
    assert probe["grpc"].get("service", "") == ""
    allowed_s = probe["periodSeconds"] * probe["failureThreshold"]
    assert allowed_s >= float(environment(base)["REDIS_WAIT"]) + 30


def test_agent_hosts_run_as_user_1000_without_escalation(base: Objects) -> None:
    context = pod_of(base, "agent-host")["securityContext"]
    assert (context["runAsUser"], context["runAsNonRoot"]) == (1000, True)
    assert container(base, "agent-host")["securityContext"]["allowPrivilegeEscalation"] is False


@pytest.mark.parametrize("deployment", ["redis", "agent-host"])
@pytest.mark.parametrize("name", FOLDERS)
def test_no_container_is_root_or_may_become_it_or_write_outside_its_volumes(
    name: str, deployment: str
) -> None:
    objects = objects_of(name)
    pod = pod_of(objects, deployment)
    context = container(objects, deployment)["securityContext"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    # A process that another container's end does not end would make proofs of death untrue.
    assert not pod.get("shareProcessNamespace")
    assert not pod.get("hostPID")


def test_horizontal_pod_autoscaler(base: Objects) -> None:
    hpa = base["HorizontalPodAutoscaler", "agent-host"]["spec"]
    assert (hpa["minReplicas"], hpa["maxReplicas"]) == (3, 20)
    assert hpa["scaleTargetRef"]["name"] == "agent-host"
    targets = {
        m["resource"]["name"]: m["resource"]["target"]["averageUtilization"] for m in hpa["metrics"]
    }
    assert targets == {"cpu": 70, "memory": 75}


def policies(behaviour: Raw) -> set[tuple[str, int, int]]:
    return {(p["type"], p["value"], p["periodSeconds"]) for p in behaviour["policies"]}


def test_scale_down_is_gradual_and_scale_up_aggressive(base: Objects) -> None:
    behaviour = base["HorizontalPodAutoscaler", "agent-host"]["spec"]["behavior"]
    down, up = behaviour["scaleDown"], behaviour["scaleUp"]
    assert down["stabilizationWindowSeconds"] == 5 * 60
    assert policies(down) == {("Percent", 50, 60), ("Pods", 2, 60)}
    assert down["selectPolicy"] == "Min"
    assert up["stabilizationWindowSeconds"] == 0
    assert policies(up) == {("Percent", 100, 60), ("Pods", 4, 60)}
    assert up["selectPolicy"] == "Max"


# The document's TODOs, and what a registry that decides needs ----------------------------


def test_secrets_come_from_a_secret_and_no_file_holds_one() -> None:
    for name in FOLDERS:
        objects = objects_of(name)
        assert not [kind for kind, _ in objects if kind == "Secret"]
        env = environment(objects)
        for variable, key in (
            ("REDIS_PASSWORD", "redis-password"), ("REDISCLI_AUTH", "redis-password"),
            ("ROOST_TOKEN", "client-token"),
        ):  # fmt: skip
            reference = env[variable]["secretKeyRef"]
            assert (reference["name"], reference["key"]) == ("roost-secrets", key)
            assert reference["optional"] is (name != "production")


def test_redis_is_reached_by_the_hosts_alone(base: Objects) -> None:
    policy = base["NetworkPolicy", "redis"]["spec"]
    assert policy["podSelector"] == {"matchLabels": {"app": "redis"}}
    assert policy["ingress"] == [{
        "from": [{"podSelector": {"matchLabels": {"app": "agent-host"}}}],
        "ports": [{"protocol": "TCP", "port": 6379}],
    }]  # fmt: skip
    assert "Egress" in policy["policyTypes"]
    assert not policy.get("egress")


def test_everything_that_is_not_allowed_in_is_denied(base: Objects) -> None:
    policy = base["NetworkPolicy", "default-deny"]["spec"]
    assert policy == {"podSelector": {}, "policyTypes": ["Ingress"]}


def test_hosts_reach_each_other_redis_names_and_the_api(base: Objects) -> None:
    rules = base["NetworkPolicy", "agent-host"]["spec"]["egress"]
    reach = {
        (rule["to"][0]["podSelector"]["matchLabels"]["app"] if "to" in rule else "", port["port"])
        for rule in rules
        for port in rule["ports"]
    }
    assert reach >= {("agent-host", 50051), ("redis", 6379), ("", 53), ("", 443), ("", 6443)}


def test_metrics_are_announced_to_prometheus(base: Objects) -> None:
    notes = base["Deployment", "agent-host"]["spec"]["template"]["metadata"]["annotations"]
    port = environment(base)["METRICS_PORT"]
    assert notes["prometheus.io/scrape"] == "true"
    assert (notes["prometheus.io/port"], notes["prometheus.io/path"]) == (port, "/metrics")
    assert port in {str(p["containerPort"]) for p in container(base, "agent-host")["ports"]}


@pytest.mark.parametrize("name", FOLDERS)
def test_the_grace_period_is_longer_than_the_drain(name: str) -> None:
    objects = objects_of(name)
    grace_s = pod_of(objects, "agent-host")["terminationGracePeriodSeconds"]
    assert grace_s >= int(environment(objects)["DRAIN_TIMEOUT"]) + 10


def test_one_host_at_a_time_is_away_and_hosts_are_spread(base: Objects) -> None:
    budget = base["PodDisruptionBudget", "agent-host"]["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"] == {"matchLabels": {"app": "agent-host"}}
    spread = pod_of(base, "agent-host")["topologySpreadConstraints"]
    assert [s["topologyKey"] for s in spread] == [
        "topology.kubernetes.io/zone", "kubernetes.io/hostname",
    ]  # fmt: skip
    rolling = base["Deployment", "agent-host"]["spec"]["strategy"]["rollingUpdate"]
    assert rolling == {"maxSurge": 1, "maxUnavailable": 0}


def test_two_redis_servers_never_overlap(base: Objects) -> None:
    assert base["Deployment", "redis"]["spec"]["strategy"] == {"type": "Recreate"}


def test_a_host_knows_its_pod_its_address_and_its_service(base: Objects) -> None:
    env = environment(base)
    paths = {
        "POD_IP": "status.podIP",
        "POD_UID": "metadata.uid",
        "K8S_NAMESPACE": "metadata.namespace",
    }
    for variable, path in paths.items():
        assert env[variable] == {"fieldRef": {"fieldPath": path}}
    assert ("Service", env["K8S_SERVICE"]) in base


def test_services_do_not_inject_variables_that_look_like_settings(base: Objects) -> None:
    assert pod_of(base, "agent-host")["enableServiceLinks"] is False


# Overlays --------------------------------------------------------------------------------


def test_local_is_one_of_each_without_autoscaler() -> None:
    local = objects_of("local")
    assert local["Deployment", "redis"]["spec"]["replicas"] == 1
    assert local["Deployment", "agent-host"]["spec"]["replicas"] == 1
    assert not [name for kind, name in local if kind == "HorizontalPodAutoscaler"]


def test_local_differs_from_the_base_in_nothing_else(base: Objects) -> None:
    local = objects_of("local")
    assert set(base) - set(local) == {("HorizontalPodAutoscaler", "agent-host")}
    changed = {key for key in local if local[key] != base[key]}
    assert changed == {("Deployment", "agent-host")}


def test_production_keeps_redis_data_on_a_volume_with_aof(production: Objects) -> None:
    config = production["ConfigMap", "redis-config"]["data"]
    assert "appendonly yes" in config["persistence.conf"]
    assert "maxmemory 256mb" in config["redis.conf"]
    volumes = {v["name"]: v for v in pod_of(production, "redis")["volumes"]}
    claim = volumes["data"]["persistentVolumeClaim"]["claimName"]
    assert ("PersistentVolumeClaim", claim) in production
    assert "emptyDir" not in volumes["data"]


def test_production_has_tls_from_a_secret_and_keeps_the_probes_plain(production: Objects) -> None:
    env = environment(production)
    host = container(production, "agent-host")
    mounts = {m["name"]: m["mountPath"] for m in host["volumeMounts"]}
    for variable in ("TLS_CERT", "TLS_KEY", "TLS_CA"):
        assert Path(env[variable]).parent == Path(mounts["tls"])
    assert env["TLS_NAME"]
    volumes = {v["name"]: v for v in pod_of(production, "agent-host")["volumes"]}
    assert volumes["tls"]["secret"]["secretName"] == "roost-tls"
    assert str(host["livenessProbe"]["grpc"]["port"]) == env["HEALTH_PORT"] != env["GRPC_PORT"]


def test_production_beats_faster_and_scales_on_mailboxes_too(
    base: Objects, production: Objects
) -> None:
    beat = "HEARTBEAT_INTERVAL"
    assert float(environment(production)[beat]) < float(environment(base)[beat])
    metrics = production["HorizontalPodAutoscaler", "agent-host"]["spec"]["metrics"]
    assert [m["type"] for m in metrics] == ["Resource", "Resource", "Pods"]
    assert metrics[2]["pods"]["metric"]["name"] == "roost_mailbox_depth"
    assert "replicas" not in production["Deployment", "agent-host"]["spec"]


def test_production_keeps_every_other_variable_of_the_base(
    base: Objects, production: Objects
) -> None:
    before, after = environment(base), environment(production)
    assert set(before) <= set(after)
    secrets = {"REDIS_PASSWORD", "REDISCLI_AUTH", "ROOST_TOKEN"}
    changed: set[Any] = {name for name in before if before[name] != after[name]}
    assert changed == {"HEARTBEAT_INTERVAL", *secrets}


def test_alerts_are_a_file_in_the_overlay_and_a_config_map_in_the_cluster(
    production: Objects,
) -> None:
    data = production["ConfigMap", "roost-alerts"]["data"]
    assert data["alerts.yaml"] == (OVERLAYS / "production/alerts.yaml").read_text()
