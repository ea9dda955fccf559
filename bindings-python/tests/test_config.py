"""Options become the core's one document, and all its problems come at once."""

from datetime import timedelta

import process_hub as ph
import pytest


def config_of(**options):
    return ph.Hub("h", **options)._config


def test_nothing_set_then_only_the_id_and_an_empty_node():
    assert config_of() == {"hub_id": "h", "node": {}}


def test_durations_then_integer_milliseconds():
    config = config_of(
        migration=ph.HotSwap(handover=True, retention=1.5),
        restart=ph.Restart(window=timedelta(minutes=1), backoff=(0.01, 30)),
        shutdown_timeout=timedelta(seconds=2),
    )
    assert config["migration"] == {
        "type": "hot_swap",
        "handover": True,
        "retention_ms": 1500,
    }
    assert config["restart"] == {"window_ms": 60000, "backoff_ms": [10, 30000]}
    assert config["shutdown_timeout_ms"] == 2000


def test_strategies_then_their_types_and_options():
    config = config_of(
        synchronization=ph.Gossip(sync_interval=1, recipients=2, restricted_init=False),
        distribution=ph.Guided(fallback="consistent_hashing"),
    )
    assert config["synchronization"] == {
        "type": "gossip",
        "sync_interval_ms": 1000,
        "recipients": 2,
        "restricted_init": False,
    }
    assert config["distribution"] == {
        "type": "guided",
        "fallback": "consistent_hashing",
    }
    balanced = ph.LoadBalanced(
        max_history_size=3,
        weight_decay_factor=0.5,
        push_interval=timedelta(seconds=2),
        nodeup_redistribution=True,
    )
    assert config_of(distribution=balanced)["distribution"] == {
        "type": "load_balanced",
        "max_history_size": 3,
        "weight_decay_factor": 0.5,
        "push_interval_ms": 2000,
        "nodeup_redistribution": True,
    }


def test_options_of_the_node_then_under_node():
    config = config_of(
        name="a",
        seeds=["127.0.0.1:7400"],
        labels={"zone": "eu-1"},
        security=ph.KeySecurity(key_file="k"),
    )
    assert config["node"] == {
        "name": "a",
        "seeds": ["127.0.0.1:7400"],
        "labels": {"zone": "eu-1"},
        "security": {"mode": "key", "key_file": "k"},
    }


def test_three_mistakes_then_all_three_reported_with_their_paths():
    hub = ph.Hub(
        "h",
        migration=ph.HotSwap(retention=-1),
        host_threads=0,
        labels={"zone": ""},
        seeds=[7],
    )
    with pytest.raises(ph.InvalidConfigError) as caught:
        hub.start()
    message = caught.value.message
    for path in ("migration.retention_ms", "host_threads", "node.seeds[0]"):
        assert path in message


@pytest.mark.parametrize("duration", [float("nan"), "soon", True, None])
def test_duration_that_is_none_then_left_for_the_core_to_report(duration):
    hub = ph.Hub.from_config({"hub_id": "h", "shutdown_timeout_ms": duration})
    if duration is None:
        return
    with pytest.raises((ph.InvalidConfigError, ValueError)):
        hub.start()


def test_unknown_key_then_refused_by_name():
    with pytest.raises(ph.InvalidConfigError, match="shutdown_timout_ms"):
        ph.Hub.from_config({"hub_id": "h", "shutdown_timout_ms": 1}).start()


def test_strategy_of_a_later_version_then_refused_not_ignored():
    with pytest.raises(ph.InvalidConfigError, match="redundancy"):
        ph.Hub("h", redundancy={"type": "custom", "name": "mine"}).start()


def test_configs_then_frozen_and_keyword_only():
    with pytest.raises(TypeError):
        ph.HotSwap(True)
    with pytest.raises(AttributeError):
        ph.HotSwap().handover = True


def test_another_address_without_security_then_refused():
    with pytest.raises(ph.InvalidConfigError):
        ph.Hub("h", listen="0.0.0.0:0").start()
