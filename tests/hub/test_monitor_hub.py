"""A monitor's folder goes to the hub and comes back."""

import pytest
from hub_stand_in import ACCEPTED_TOKEN

import vrp
from vrp.monitor.fitting import FitOptions

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def monitor(small_results):
    options = FitOptions("token_confidence", alphas=(0.2,))
    return vrp.ReliabilityMonitor.fit(small_results, "llava", options)


@pytest.fixture
def account(cache, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", ACCEPTED_TOKEN)
    return cache


def test_a_monitor_that_is_pushed_is_the_one_that_comes_back(hub, account, monitor, tmp_path):
    url = monitor.push_to_hub("someone/monitor")
    (commit,) = hub.repositories["models", "someone/monitor"].names.values()
    assert url.endswith(commit)
    again = vrp.ReliabilityMonitor.from_hub("someone/monitor")
    monitor.save(tmp_path / "a")
    again.save(tmp_path / "b")
    for name in ("card.json", "monitor.safetensors", "README.md"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    pinned = vrp.ReliabilityMonitor.from_hub("someone/monitor", revision=commit)
    assert pinned.card == again.card
    hub.stop()
    assert vrp.ReliabilityMonitor.from_hub("someone/monitor").card == again.card


def test_a_monitor_is_pushed_again_into_the_same_repository(hub, account, monitor):
    monitor.push_to_hub("someone/monitor")
    hub.add("models", "someone/monitor", {"card.json": b"old"})
    monitor.push_to_hub("someone/monitor")
    assert vrp.ReliabilityMonitor.from_hub("someone/monitor").card.model == monitor.card.model


def test_what_the_hub_refuses_is_said_in_one_line(hub, cache, monitor):
    with pytest.raises(vrp.InputError, match=r"someone/monitor: .*hf auth login"):
        monitor.push_to_hub("someone/monitor")
    with pytest.raises(vrp.InputError, match="nobody/nothing"):
        vrp.ReliabilityMonitor.from_hub("nobody/nothing")
    hub.add("models", "someone/else", {"config.json": b"{}"})
    with pytest.raises(vrp.InputError, match=r"holds no card\.json, and so no monitor"):
        vrp.ReliabilityMonitor.from_hub("someone/else")
    hub.stop()
    with pytest.raises(vrp.InputError, match="the hub cannot be reached"):
        vrp.ReliabilityMonitor.from_hub("someone/monitor")
