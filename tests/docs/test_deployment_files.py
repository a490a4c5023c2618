"""The files in deploy/: what their own tools say of them, and that they agree with each other."""

import ast
import fnmatch
import re
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from adaptry.commands.grafana import FILES, FOLDERS
from engine.settings import EngineSettings
from registry.settings import RegistrySettings
from tests.support.docs.containerfile import CONTAINERFILE, ROOT, all_of, environment, stages
from tests.support.docs.page_blocks import blocks_of, compare, run

Json = dict[str, Any]

DEPLOY = ROOT / "deploy"
SYSTEMD = DEPLOY / "systemd"
MANIFESTS = {
    path.name: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
}
OF_OTHERS = {"kustomization.yaml", "servicemonitor.yaml"}  # no kinds of Kubernetes itself
KUBERNETES = ("1.30", "1.33", "1.37")  # `sleep` in preStop is from 1.30 on
SPEC: Json = MANIFESTS["statefulset.yaml"]["spec"]["template"]["spec"]
CONTAINER: Json = SPEC["containers"][0]
HTTP_SECONDS = 5  # uvicorn's, after the engine's
ENDING_SECONDS = 15  # what the rest of a stop takes at most, as seen


# ---- container -------------------------------------------------------------------------------


def test_hadolint_finds_nothing() -> None:
    tool = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([tool, CONTAINERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_runs_as_a_number_and_ends_as_the_server_does() -> None:
    last = stages()[-1]
    (user,) = all_of(last, "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user.value), "Kubernetes can't check a name"
    assert [each.value for each in all_of(last, "STOPSIGNAL")] == ["SIGTERM"]
    assert all_of(last, "ENTRYPOINT")[0].words == ["adaptry"], "no shell between signal and server"
    assert all(
        each.value.startswith("[") for each in (*all_of(last, "CMD"), *all_of(last, "VOLUME"))
    )
    assert len(all_of(last, "HEALTHCHECK")) == 1


def test_every_base_has_a_version_and_only_locked_packages_are_installed() -> None:
    known = {"python"}
    for stage in stages():
        base = stage[0].words[0]
        assert base in known or re.search(r":\d+\.\d+[\w.-]*$", base), base
    runs = [each.value for stage in stages() for each in all_of(stage, "RUN")]
    assert not [run for run in runs if re.search(r"\bpip\b|\buv\b|\bcurl\b|\bwget\b", run)]
    assert any("scripts/install.sh runtime" in run for run in runs)


def test_the_context_is_what_the_build_copies() -> None:
    copied = {
        source.rstrip("/")
        for stage in stages()
        for each in all_of(stage, "COPY")
        if not each.value.startswith("--from")
        for source in each.words[:-1]
    }
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {line[1:] for line in lines if line.startswith("!")} == copied
    assert "*" in lines
    assert all((ROOT / source).exists() for source in copied)


def test_every_import_of_the_server_is_copied() -> None:
    copied = {word for each in all_of(stages()[1], "COPY") for word in each.words[:-1]}
    ours = {path.parent.name for path in ROOT.glob("*/__init__.py")} | {"benchmarks", "tests"}
    for package in ("registry", "engine", "fleet", "guest", "adaptry"):
        for file in (ROOT / package).rglob("*.py"):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            tops = {name.partition(".")[0] for node in ast.walk(tree) for name in imported(node)}
            optional = {"demo"} if file.is_relative_to(ROOT / "adaptry/demo") else set()
            assert (tops & ours) - optional <= {each.rstrip("/") for each in copied}, file


def test_all_that_the_command_exports_for_grafana_is_copied() -> None:
    copied = {word.rstrip("/") for each in all_of(stages()[1], "COPY") for word in each.words[:-1]}
    missing = {
        name
        for name in (*FOLDERS, *FILES)
        if not {str(path) for path in (Path(name), *Path(name).parents)} & copied
    }
    assert missing == set()


def imported(node: ast.AST) -> list[str]:
    match node:
        case ast.Import():
            return [alias.name for alias in node.names]
        case ast.ImportFrom():
            return [node.module or ""]
        case _:
            return []


# ---- systemd ---------------------------------------------------------------------------------


def unit(name: str) -> dict[str, list[str]]:
    """Values by key, of all sections."""
    found: dict[str, list[str]] = {}
    for line in (SYSTEMD / name).read_text(encoding="utf-8").splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


@pytest.fixture(scope="module")
def systemd_analyze() -> str:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not installed (Debian: apt-get install systemd)")
    return tool


def test_systemd_reads_the_units(systemd_analyze: str, tmp_path: Path) -> None:
    for file in SYSTEMD.glob("adaptry*.*"):
        # what they start is not here, and an absolute path has to be
        text = file.read_text(encoding="utf-8").replace(
            "/opt/adaptry/.venv/bin/adaptry", "/bin/true"
        )
        (tmp_path / file.name).write_text(text, encoding="utf-8")
    folder = tmp_path / "adaptry.service.d"
    folder.mkdir()
    shutil.copy(SYSTEMD / "gpu.conf", folder)
    units = [*tmp_path.glob("*.service"), *tmp_path.glob("*.timer")]
    assert len(units) == 3
    done = subprocess.run(
        [systemd_analyze, "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    ours = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "adaptry" in line]
    assert (done.returncode, ours) == (0, [])


@pytest.mark.parametrize(("name", "most"), [("adaptry", 1.7), ("adaptry-backup", 1.5)])
def test_systemd_finds_little_exposed(systemd_analyze: str, name: str, most: float) -> None:
    file = SYSTEMD / f"{name}.service"
    command = [systemd_analyze, "security", "--offline=yes", "--no-pager", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    level = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert level, done.stderr
    assert float(level[1]) <= most


@pytest.mark.usefixtures("systemd_analyze")
def test_the_commands_of_the_page_print_its_output() -> None:
    blocks = blocks_of("operations/deployment.md")
    compare(blocks, run([commands for commands, _ in blocks], "http://127.0.0.1:1"))


def test_the_service_waits_for_what_is_being_generated() -> None:
    service = unit("adaptry.service")
    assert service["KillSignal"] == ["SIGTERM"]
    assert service["KillMode"] == ["mixed"], "the engine must not be told before the server"
    profile = yaml.safe_load((SYSTEMD / "profile.yaml").read_text(encoding="utf-8"))
    needed = profile["vllm"]["shutdown-timeout"] + HTTP_SECONDS + ENDING_SECONDS
    assert int(service["TimeoutStopSec"][0]) >= needed


def test_the_service_has_the_image_s_environment() -> None:
    image = environment(stages()[-1])
    service = dict(pair.split("=", 1) for pair in unit("adaptry.service")["Environment"])
    assert service.items() <= image.items()
    # what is left is of containers only
    assert set(image) - set(service) == {
        "ADAPTRY_REQUIRE_KEYS",
        "PATH",
        "PYTHONUNBUFFERED",
        "NVIDIA_VISIBLE_DEVICES",
        "NVIDIA_DRIVER_CAPABILITIES",
    }


def test_the_backup_runs_as_the_server_s_user_on_its_state() -> None:
    service, backup = unit("adaptry.service"), unit("adaptry-backup.service")
    assert backup["User"] == service["User"]
    assert service["StateDirectory"][0] in backup["StateDirectory"][0].split()
    assert set(backup["Environment"]) <= set(service["Environment"])
    assert backup["EnvironmentFile"] == service["EnvironmentFile"]


# ---- Kubernetes ------------------------------------------------------------------------------


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("name", sorted(set(MANIFESTS) - OF_OTHERS))
def test_kubernetes_takes_the_manifest(name: str, version: str) -> None:
    """Strictly: a field that it does not know is a mistake."""
    validated: str = kubernetes_validate.validate(MANIFESTS[name], version, strict=True)
    assert validated == version


def test_a_manifest_with_a_wrong_field_is_refused() -> None:
    wrong = {**MANIFESTS["service.yaml"], "specs": {}}
    with pytest.raises(kubernetes_validate.ValidationError, match="specs"):
        kubernetes_validate.validate(wrong, KUBERNETES[-1], strict=True)


def test_the_kustomization_names_every_manifest_but_the_operator_s() -> None:
    assert set(MANIFESTS["kustomization.yaml"]["resources"]) == set(MANIFESTS) - OF_OTHERS


def test_the_pod_may_do_as_little_as_restricted_demands() -> None:
    pod, container = SPEC["securityContext"], CONTAINER["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["seccompProfile"]["type"] == "RuntimeDefault"
    assert container["capabilities"] == {"drop": ["ALL"]}
    assert container["allowPrivilegeEscalation"] is False
    assert container["readOnlyRootFilesystem"] is True
    assert SPEC["automountServiceAccountToken"] is False
    (user,) = all_of(stages()[-1], "USER")
    assert f"{pod['runAsUser']}:{pod['runAsGroup']}" == user.value
    assert pod["fsGroup"] == pod["runAsGroup"]
    level = MANIFESTS["namespace.yaml"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
    assert level == "restricted"


def test_what_the_server_writes_to_is_mounted() -> None:
    image = environment(stages()[-1])
    mounts = {mount["mountPath"]: mount["name"] for mount in CONTAINER["volumeMounts"]}
    assert image["ADAPTRY_STORE"] in mounts
    assert image["XDG_CACHE_HOME"] in mounts
    assert {"/tmp", "/dev/shm"} <= set(mounts)
    claims = MANIFESTS["statefulset.yaml"]["spec"]["volumeClaimTemplates"]
    volumes = {each["name"] for each in SPEC["volumes"]}
    volumes |= {claim["metadata"]["name"] for claim in claims}
    assert set(mounts.values()) == volumes
    named = [
        each["persistentVolumeClaim"]["claimName"]
        for each in SPEC["volumes"]
        if "persistentVolumeClaim" in each
    ]
    assert named == [MANIFESTS["storage.yaml"]["metadata"]["name"]]


def test_a_replica_is_called_by_its_pod_wherever_it_runs() -> None:
    arguments = CONTAINER["args"]
    assert arguments[arguments.index("--server-id") + 1] == "$(POD_NAME)"
    (pod,) = [each for each in CONTAINER["env"] if each["name"] == "POD_NAME"]
    assert pod["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    assert MANIFESTS["statefulset.yaml"]["kind"] == "StatefulSet", "whose pods keep their names"


def test_every_selector_finds_the_pods_and_every_port_is_the_server_s() -> None:
    labels = MANIFESTS["statefulset.yaml"]["spec"]["template"]["metadata"]["labels"]
    selectors = [
        MANIFESTS["statefulset.yaml"]["spec"]["selector"]["matchLabels"],
        MANIFESTS["service.yaml"]["spec"]["selector"],
        MANIFESTS["replicas.yaml"]["spec"]["selector"],
        MANIFESTS["availability.yaml"]["spec"]["selector"]["matchLabels"],
        MANIFESTS["network.yaml"]["spec"]["podSelector"]["matchLabels"],
        SPEC["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
    ]
    assert all(selector and selector.items() <= labels.items() for selector in selectors)
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert ports == {"http": 8000}
    targets = [
        MANIFESTS[name]["spec"]["ports"][0]["targetPort"]
        for name in ("service.yaml", "replicas.yaml")
    ]
    probes = [
        CONTAINER[f"{kind}Probe"]["httpGet"]["port"]
        for kind in ("startup", "liveness", "readiness")
    ]
    monitored = [each["port"] for each in MANIFESTS["servicemonitor.yaml"]["spec"]["endpoints"]]
    allowed = [
        port["port"]
        for rule in MANIFESTS["network.yaml"]["spec"]["ingress"]
        for port in rule["ports"]
    ]
    assert set(chain(targets, probes, monitored, allowed)) == {"http"}
    monitor = MANIFESTS["servicemonitor.yaml"]["spec"]["selector"]["matchLabels"]
    assert monitor.items() <= MANIFESTS["replicas.yaml"]["metadata"]["labels"].items()
    assert not monitor.items() <= MANIFESTS["service.yaml"]["metadata"]["labels"].items()
    assert (
        MANIFESTS["statefulset.yaml"]["spec"]["serviceName"]
        == MANIFESTS["replicas.yaml"]["metadata"]["name"]
    )


def test_readiness_uses_readyz_and_liveness_healthz() -> None:
    assert CONTAINER["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert CONTAINER["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert CONTAINER["startupProbe"]["httpGet"]["path"] == "/healthz"


def test_a_pod_waits_for_what_is_being_generated() -> None:
    profile = yaml.safe_load(MANIFESTS["configmap.yaml"]["data"]["profile.yaml"])
    pause = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]
    needed = pause + profile["vllm"]["shutdown-timeout"] + HTTP_SECONDS + ENDING_SECONDS
    assert SPEC["terminationGracePeriodSeconds"] >= needed


def test_one_replica_takes_one_gpu_and_no_more_memory_than_it_requests() -> None:
    resources = CONTAINER["resources"]
    assert resources["limits"]["nvidia.com/gpu"] == resources["requests"]["nvidia.com/gpu"] == "1"
    assert resources["limits"]["memory"] == resources["requests"]["memory"]
    assert {"cpu", "ephemeral-storage"} <= set(resources["limits"])


def test_every_page_that_a_deployment_file_points_at_exists() -> None:
    texts = [path.read_text(encoding="utf-8") for path in DEPLOY.rglob("*") if path.is_file()]
    pages = {page for text in texts for page in re.findall(r"docs/[\w/-]+\.md", text)}
    assert "docs/operations/deployment.md" in pages
    assert {page for page in pages if not (ROOT / page).is_file()} == set()


def test_every_setting_that_is_named_exists() -> None:
    known = {
        f"ADAPTRY_{name}".upper()
        for s in (EngineSettings, RegistrySettings)
        for name in s.model_fields
    }
    known |= {"ADAPTRY_SERVER"}
    for file in DEPLOY.rglob("*"):
        if file.is_file() and not fnmatch.fnmatch(file.name, "*.pyc"):
            named = set(re.findall(r"\bADAPTRY_[A-Z_]+[A-Z]\b", file.read_text(encoding="utf-8")))
            assert named <= known, file
