"""Each Kubernetes file is whole, and the files agree with each other and with the code."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from ray.serve.schema import ServeDeploySchema

from jobs.cli import parse
from sead_ray.config import ServeConfig
from tests.cluster.kubernetes import FILES, FOLDER, KINDS, clusters, jobs, one, resources, templates

NAMESPACE, APP, TOKEN_SECRET, REDIS = "sead-ray", "sead-ray", "sead-ray-token", "sead-ray-redis"
CLUSTERS = pytest.mark.parametrize("cluster", [pytest.param(spec, id=name) for name, spec in clusters().items()])
PODS = [(f"{resource.file}-{n}", pod) for resource in resources() for n, pod in enumerate(templates(resource.body))]
EVERY_POD = pytest.mark.parametrize("pod", [pytest.param(pod, id=name) for name, pod in PODS])


def is_ray(pod: dict[str, Any]) -> bool:
    return pod["metadata"]["labels"]["app"] == APP


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_says_first_what_to_fill_in(path: Path) -> None:
    comment = [line for line in path.read_text("utf-8").splitlines()[:12] if line.startswith("#")]
    assert any("Fill in" in line for line in comment)


def test_every_resource_has_its_version_name_namespace_and_required_keys() -> None:
    names = set()
    for resource in resources():
        version, required = KINDS[resource.kind]
        assert resource.body["apiVersion"] == version
        assert required <= resource.spec.keys(), resource.file
        metadata = resource.body["metadata"]
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", metadata["name"])
        assert metadata.get("namespace") == (None if resource.kind == "Namespace" else NAMESPACE)
        assert (resource.kind, metadata["name"]) not in names
        names.add((resource.kind, metadata["name"]))
    assert {kind for kind, _ in names} == set(KINDS)


@CLUSTERS
def test_a_cluster_asks_for_the_token_and_scales_by_the_second_autoscaler(cluster: dict[str, Any]) -> None:
    assert cluster["authOptions"] == {"mode": "token", "secretName": TOKEN_SECRET}
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["autoscalerOptions"]["version"] == "v2"
    assert cluster["rayVersion"] == ray.__version__
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


@CLUSTERS
def test_worker_groups_are_bounded_and_tell_ray_what_they_ask_kubernetes_for(cluster: dict[str, Any]) -> None:
    groups = cluster["workerGroupSpecs"]
    assert len({group["groupName"] for group in groups}) == len(groups)
    for group in groups:
        assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        (container,) = group["template"]["spec"]["containers"]
        gpus = container["resources"]["requests"].get("nvidia.com/gpu", 0)
        assert group["rayStartParams"].get("num-gpus", "0") == str(gpus)
        assert container["resources"]["limits"].get("nvidia.com/gpu", 0) == gpus


def test_workers_of_jobs_start_from_none_on_spot_nodes() -> None:
    for name, cluster in clusters().items():
        for group in cluster["workerGroupSpecs"] if name != "rayservice.yaml" else []:
            assert (group["minReplicas"], group["replicas"]) == (0, 0)
            assert group["template"]["spec"]["nodeSelector"]


@EVERY_POD
def test_a_pod_has_no_rights_it_does_not_need_and_states_its_resources(pod: dict[str, Any]) -> None:
    spec = pod["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        resources_ = container["resources"]
        assert {"cpu", "memory"} <= resources_["requests"].keys()
        assert resources_["limits"]["memory"] == resources_["requests"]["memory"]


@EVERY_POD
def test_ray_pods_share_image_identity_and_port_names(pod: dict[str, Any]) -> None:
    if not is_ray(pod):
        return
    assert pod["spec"]["serviceAccountName"] == one_name("ServiceAccount")
    assert pod["spec"]["restartPolicy"] == "Never"  # autoscaler v2 replaces pods, and does not restart them
    (container,) = pod["spec"]["containers"]
    assert container["image"] == "IMAGE"
    ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
    known = {"gcs": 6379, "dashboard": 8265, "client": 10001, "metrics": 8080, "serve": 8000}
    assert ports.items() <= known.items()
    if container["name"] != "ray-job-submitter":
        assert "metrics" in ports


def one_name(kind: str) -> str:
    (resource,) = resources(kind)
    return resource.body["metadata"]["name"]


def test_no_file_holds_a_key_and_identities_are_annotations() -> None:
    assert not resources("Secret")
    for path in FILES:
        assert not re.search(r"AWS_SECRET|AWS_ACCESS_KEY|private_key|GOOGLE_APPLICATION_CREDENTIALS", path.read_text())
    (account,) = resources("ServiceAccount")
    annotations = account.body["metadata"]["annotations"]
    assert annotations.keys() == {"eks.amazonaws.com/role-arn", "iam.gke.io/gcp-service-account"}


@pytest.mark.parametrize("job", jobs(), ids=["rayjob", "raycronjob"])
def test_a_job_is_retried_bounded_and_cleaned_up(job: dict[str, Any]) -> None:
    assert job["backoffLimit"] >= 1
    assert job["activeDeadlineSeconds"] > 0
    assert job["shutdownAfterJobFinishes"] is True
    assert job["ttlSecondsAfterFinished"] > 0


@pytest.mark.parametrize("job", jobs(), ids=["rayjob", "raycronjob"])
def test_a_jobs_command_is_one_that_our_jobs_take(job: dict[str, Any], repository: Path) -> None:
    words = shlex.split(job["entrypoint"].replace("/app/", f"{repository}/"))  # where the image has the code
    if words[:2] == ["bash", "-c"]:
        words = shlex.split(words[2].partition("||")[0])
    assert words[:3] == ["python", "-m", "jobs.run_rounds"]
    config, dry_run = parse("A job.", words[3:])
    assert not dry_run
    assert config.run_dir.startswith("s3://")  # every attempt finds what the one before did
    assert config.data.root.startswith("s3://")
    gpu = job["rayClusterSpec"]["workerGroupSpecs"][0]
    assert config.score.max_actors == config.train.most_workers == gpu["maxReplicas"]
    assert config.score.gpus_per_actor == config.train.gpus_per_worker == 1


def test_a_night_ends_before_the_next_begins_and_waiting_is_no_failure() -> None:
    cron = one("RayCronJob")
    assert re.fullmatch(r"\d+ \d+ \* \* \*", cron["schedule"])
    assert cron["jobTemplate"]["activeDeadlineSeconds"] < 24 * 3600
    assert "--labels.mode wait" in cron["jobTemplate"]["entrypoint"]
    assert cron["jobTemplate"]["entrypoint"].endswith("|| test $? -eq 3'")


def test_the_service_is_the_one_of_serve() -> None:
    service = one("RayService")
    config = ServeDeploySchema.model_validate(yaml.safe_load(service["serveConfigV2"]))
    (application,) = config.applications
    assert application.import_path == "serve.app:build"
    args = ServeConfig(**application.args)
    assert (args.model_dir or "").startswith("s3://")
    assert (config.http_options.host, config.http_options.port) == ("0.0.0.0", 8000)
    assert service["upgradeStrategy"]["type"] == "NewCluster"
    gpu = service["rayClusterConfig"]["workerGroupSpecs"][0]
    assert args.replicas * (args.gpus_per_replica or 0) <= gpu["minReplicas"]


def test_the_service_listens_to_all_and_so_has_tokens_where_its_ingress_runs() -> None:
    service = one("RayService")
    (application,) = yaml.safe_load(service["serveConfigV2"])["applications"]
    file = Path(application["args"]["tokens_file"])
    for group in service["rayClusterConfig"]["workerGroupSpecs"]:  # the head has no CPU for it
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        (mount,) = [mount for mount in container["volumeMounts"] if Path(mount["mountPath"]) == file.parent]
        (volume,) = [volume for volume in pod["volumes"] if volume["name"] == mount["name"]]
        secret = volume["secret"]["secretName"]
        assert f"secret generic {secret} --from-file={file.name}" in (FOLDER / "rayservice.yaml").read_text("utf-8")
        assert volume["secret"]["defaultMode"] & 0o040  # user 1000 reads it by its group


def test_the_services_state_lies_in_the_redis_of_redis_yaml() -> None:
    options = one("RayService")["rayClusterConfig"]["gcsFaultToleranceOptions"]
    port = one("Service")["ports"][0]["port"]
    assert options["redisAddress"] == f"{one_name('Service')}:{port}"
    (container,) = one("StatefulSet")["template"]["spec"]["containers"]
    (password,) = container["env"]
    assert options["redisPassword"]["valueFrom"] == password["valueFrom"]
    assert one("Service")["selector"] == one("StatefulSet")["template"]["metadata"]["labels"] == {"app": REDIS}


def test_policies_select_the_pods_and_admit_only_named_peers() -> None:
    policies = {item.body["metadata"]["name"]: item.spec for item in resources("NetworkPolicy")}
    assert {tuple(spec["podSelector"]["matchLabels"].items()) for spec in policies.values()} == {
        (("app", APP),),
        (("app", REDIS),),
    }
    for spec in policies.values():
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        for rule in spec["ingress"]:
            assert rule["from"]
            assert all(peer.get("podSelector") or peer.get("namespaceSelector") for peer in rule["from"])
    scraped = one("PodMonitor")
    assert scraped["selector"]["matchLabels"] == {"app": APP}
    assert scraped["podMetricsEndpoints"][0]["port"] == "metrics"
