"""Dashboard and alert rules ask for metrics that the API really gives."""

import json
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
METRIC = re.compile(r"backdoor_audit_[a-z_]+")


def alerts():
    groups = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels():
    return json.loads((ROOT / "deploy/grafana/backdoor-audit.json").read_text())["panels"]


@pytest.fixture(scope="module")
def given():
    """Names of the samples on the metrics page, families that have no sample yet included."""
    source = (ROOT / "service/health/metrics.py").read_text()
    names = set(re.findall(r'"(backdoor_audit_[a-z_]+)"', source))
    counted = {f"{name}_total" for name in names} | {f"{name}_bucket" for name in names}
    return names | counted


def test_every_metric_that_is_asked_for_is_given(given):
    asked = {name for rule in alerts() for name in METRIC.findall(rule["expr"])}
    asked |= {name for panel in panels() for target in panel["targets"] for name in METRIC.findall(target["expr"])}
    assert asked
    assert asked <= given


def test_alerts_say_what_to_look_at():
    for rule in alerts():
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]
        assert rule["labels"]["severity"] in ("warning", "critical")


def test_panels_do_not_overlap():
    taken = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        taken |= cells
