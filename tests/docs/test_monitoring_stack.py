"""What brings up Prometheus and Grafana: nothing of docker runs here, so its parts are compared.

Checked: the compose file names pinned images and files that exist, opens nothing to the network,
and its parts find each other; promtool reads the configuration as Prometheus would.
"""

import re
import subprocess
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from tests.support.servers.prometheus import promtool

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "grafana"
CONFIG = ROOT / "configs" / "prometheus.yml"
PINNED = re.compile(r"[a-z]+/[a-z]+:v?\d+\.\d+\.\d+")


def read(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


COMPOSE = read(GRAFANA / "compose.yaml")
SERVICES = COMPOSE["services"]
PROVIDER = read(GRAFANA / "provisioning" / "dashboards" / "adaptry.yml")["providers"][0]
SOURCE = read(GRAFANA / "provisioning" / "datasources" / "prometheus.yml")["datasources"][0]
by_service = pytest.mark.parametrize("service", SERVICES)


def mounts(service: str) -> dict[PurePosixPath, Path | str]:
    """Place in the container → what is there: a folder of this repository, or a volume's name."""
    found: dict[PurePosixPath, Path | str] = {}
    for volume in SERVICES[service]["volumes"]:
        source, place, *_ = volume.split(":")
        found[PurePosixPath(place)] = (GRAFANA / source).resolve() if "/" in source else source
    return found


def in_repository(service: str, place: str) -> Path:
    """The file of this repository that the container sees at `place`."""
    path = PurePosixPath(place)
    for mounted, source in mounts(service).items():
        if path.is_relative_to(mounted) and isinstance(source, Path):
            return source / path.relative_to(mounted)
    raise AssertionError(f"{service} has nothing at {place}")


def options() -> dict[str, str]:
    """Prometheus's command line."""
    given = (
        option.removeprefix("--").partition("=") for option in SERVICES["prometheus"]["command"]
    )
    return {name: value for name, _, value in given}


@by_service
def test_an_image_is_pinned(service: str) -> None:
    assert PINNED.fullmatch(SERVICES[service]["image"])


@by_service
def test_what_is_mounted_exists_and_is_read_only(service: str) -> None:
    volumes = SERVICES[service]["volumes"]
    for volume in volumes:
        source, _, *mode = volume.split(":")
        if "/" in source:
            assert (GRAFANA / source).is_dir(), source
            assert mode == ["ro"], volume
        else:
            assert source in COMPOSE["volumes"]


@by_service
def test_nothing_is_opened_to_the_network(service: str) -> None:
    assert SERVICES[service]["network_mode"] == "host"
    assert "ports" not in SERVICES[service]
    assert options()["web.listen-address"].startswith("127.0.0.1:")
    assert SERVICES["grafana"]["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"


def test_prometheus_finds_its_configuration_and_in_it_the_rules() -> None:
    place = options()["config.file"]
    assert in_repository("prometheus", place) == CONFIG
    (pattern,) = read(CONFIG)["rule_files"]
    folder = PurePosixPath(place).parent / PurePosixPath(pattern).parent
    in_container = PurePosixPath(str(Path(folder).resolve()))
    assert in_repository("prometheus", str(in_container)) == GRAFANA / "rules"
    assert sorted(CONFIG.parent.glob(pattern)), "from the repository they are found too"


def test_exemplars_are_stored() -> None:
    assert options()["enable-feature"] == "exemplar-storage"


def test_grafana_finds_the_dashboards_and_prometheus() -> None:
    place = PROVIDER["options"]["path"]
    assert in_repository("grafana", place) == GRAFANA / "dashboards"
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert in_repository("grafana", home).is_file()
    for kind in ("datasources", "dashboards"):
        provisioning = in_repository("grafana", f"/etc/grafana/provisioning/{kind}")
        assert list(provisioning.glob("*.yml"))
    assert SOURCE["type"] == "prometheus"
    assert SOURCE["url"] == f"http://{options()['web.listen-address']}"


def test_grafana_and_prometheus_agree_on_how_often_is_scraped() -> None:
    config = read(CONFIG)
    assert SOURCE["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]
    (job,) = config["scrape_configs"]
    assert re.fullmatch("adaptry.*", job["job_name"])


def test_prometheus_takes_the_configuration() -> None:
    command = [promtool(), "check", "config", str(CONFIG)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.count("rules found") == len(list((GRAFANA / "rules").glob("*.yml")))
