"""The configuration, as values that become the core's one JSON document.

Only what is set is passed on: the core holds the defaults, checks everything and
reports all problems at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, ClassVar, Literal

from process_hub._durations import Duration, config_ms
from process_hub.errors import InvalidConfigError


@dataclass(frozen=True, kw_only=True)
class _Option:
    """One tagged object of the document; durations end in ``_ms`` there."""

    _type: ClassVar[str]
    _durations: ClassVar[frozenset[str]] = frozenset()

    def to_json(self) -> dict[str, Any]:
        """Return the object of the document: what was set, and nothing else."""
        document: dict[str, Any] = {"type": self._type}
        for option in fields(self):
            value = getattr(self, option.name)
            if value is None:
                continue
            if option.name in self._durations:
                document[f"{option.name}_ms"] = config_ms(value)
            else:
                document[option.name] = to_json(value)
        return document


@dataclass(frozen=True, kw_only=True)
class Singularity(_Option):
    """One instance of each child."""

    _type = "singularity"


@dataclass(frozen=True, kw_only=True)
class Replication(_Option):
    """Several instances of each child, on different nodes.

    Attributes
    ----------
    replication_factor
        How many, or ``"cluster_size"``: one on each member of the hub.
    replication_model
        Whether all of them are active, or one while the others stand by.
    redundancy_signal
        Which roles `Child.redundancy_signal` is told.
    """

    _type = "replication"

    replication_factor: int | Literal["cluster_size"] | None = None
    replication_model: Literal["active_active", "active_passive"] | None = None
    redundancy_signal: Literal["none", "active", "passive", "all"] | None = None


@dataclass(frozen=True, kw_only=True)
class ColdSwap(_Option):
    """Children move by stopping, then starting.

    `handover` takes the state along; `handover_data_wait` bounds giving it.
    """

    _type = "cold_swap"
    _durations = frozenset({"handover_data_wait"})

    handover: bool | None = None
    handover_data_wait: Duration | None = None


@dataclass(frozen=True, kw_only=True)
class HotSwap(_Option):
    """Children move by starting, handing over, then stopping.

    Attributes
    ----------
    handover
        Whether the state goes along.
    retention
        How long an outgoing instance whose state was not delivered lives on.
    confirm_handover
        Whether ``children_migrated`` waits for `Child.alter_handover_state`.
    handover_data_wait
        How long ending `run` and giving the state may take together.
    child_migration_timeout
        How long the new instance may take to start.
    """

    _type = "hot_swap"
    _durations = frozenset(
        {"retention", "handover_data_wait", "child_migration_timeout"}
    )

    handover: bool | None = None
    retention: Duration | None = None
    confirm_handover: bool | None = None
    handover_data_wait: Duration | None = None
    child_migration_timeout: Duration | None = None


@dataclass(frozen=True, kw_only=True)
class Custom(_Option):
    """A family of which a function of the program decides.

    Attributes
    ----------
    name
        Under which the function is registered: the option `strategies` of the hub.
    base
        The built-in whose options hold, and which decides where the function gives no
        good answer; by default the family's default.
    """

    _type = "custom"

    name: str
    base: _Option | None = None


@dataclass(frozen=True, kw_only=True)
class PubSub(_Option):
    """The registry travels as deltas to every member, and digests at an interval."""

    _type = "pub_sub"
    _durations = frozenset({"sync_interval"})

    sync_interval: Duration | None = None


@dataclass(frozen=True, kw_only=True)
class Gossip(_Option):
    """The registry travels to a few members at a time, who pass on what is new.

    Attributes
    ----------
    sync_interval
        How often digests are exchanged.
    recipients
        How many members are told at a time.
    restricted_init
        Whether only the member with the smallest name begins the exchange of digests,
        or each of them its own.
    """

    _type = "gossip"
    _durations = frozenset({"sync_interval"})

    sync_interval: Duration | None = None
    recipients: int | None = None
    restricted_init: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Divergence(_Option):
    """Both sides of a partition run everything, and merge when it heals."""

    _type = "divergence"


@dataclass(frozen=True, kw_only=True)
class StaticQuorum(_Option):
    """Only a side with so many members runs anything.

    Attributes
    ----------
    quorum_size
        The members needed. Less than a majority promises less.
    startup_confirm
        Whether requests before the first quorum fail at once with `Partitioned`.
    lease
        How long a node may run children after a quorum last heard of it.
    """

    _type = "static_quorum"
    _durations = frozenset({"lease"})

    quorum_size: int
    startup_confirm: bool | None = None
    lease: Duration | None = None


@dataclass(frozen=True, kw_only=True)
class DynamicQuorum(_Option):
    """Only a side with this share of the members runs anything.

    Attributes
    ----------
    quorum_size
        The share, in percent, of the members that are there or were lost lately.
    threshold_time
        After this time with a quorum a lost member counts no more.
    lease
        How long a node may run children after a quorum last heard of it.
    """

    _type = "dynamic_quorum"
    _durations = frozenset({"threshold_time", "lease"})

    quorum_size: int
    threshold_time: Duration | None = None
    lease: Duration | None = None


@dataclass(frozen=True, kw_only=True)
class MajorityQuorum(_Option):
    """Only a side with more than half of the members runs anything.

    Attributes
    ----------
    initial_cluster_size
        So many members begin a cluster together.
    track_max_size
        Whether a cluster that was larger needs more than half of its largest size.
    lease
        How long a node may run children after a quorum last heard of it.
    """

    _type = "majority_quorum"
    _durations = frozenset({"lease"})

    initial_cluster_size: int
    track_max_size: bool | None = None
    lease: Duration | None = None


@dataclass(frozen=True, kw_only=True)
class ConsistentHashing(_Option):
    """Children are shared out by weighted rendezvous hashing."""

    _type = "consistent_hashing"


@dataclass(frozen=True, kw_only=True)
class Guided(_Option):
    """Children go to the nodes that the ``child_mapping`` of each start names.

    `fallback` says where a child goes while a node it is mapped to cannot run it:
    nowhere, or where `ConsistentHashing` says.
    """

    _type = "guided"

    fallback: Literal["wait", "consistent_hashing"] | None = None


@dataclass(frozen=True, kw_only=True)
class LoadBalanced(_Option):
    """Each start goes to the nodes with most capacity left, by the members' loads.

    push_interval
        How often each member measures its load and tells the others.
    max_history_size, weight_decay_factor
        How many measured loads a member's score is made of, and what each of them
        counts relative to the one after it: from 0 to 1.
    nodeup_redistribution
        Whether a node that joins is given its share of the children that run already.
    """

    _type = "load_balanced"
    _durations = frozenset({"push_interval"})

    max_history_size: int | None = None
    weight_decay_factor: float | None = None
    push_interval: Duration | None = None
    nodeup_redistribution: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Restart:
    """The restart budget of each child; past it the child is quarantined."""

    max_restarts: int | None = None
    window: Duration | None = None
    backoff: tuple[Duration, Duration] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the object of the document."""
        document: dict[str, Any] = {}
        if self.max_restarts is not None:
            document["max_restarts"] = self.max_restarts
        if self.window is not None:
            document["window_ms"] = config_ms(self.window)
        if self.backoff is not None:
            document["backoff_ms"] = [config_ms(pause) for pause in self.backoff]
        return document


@dataclass(frozen=True, kw_only=True)
class KeySecurity:
    """Nodes prove a shared key: lines of 64 hex digits in a file of mode 0600."""

    key_file: str

    def to_json(self) -> dict[str, Any]:
        """Return the object of the document."""
        return {"mode": "key", "key_file": str(self.key_file)}


@dataclass(frozen=True, kw_only=True)
class InsecurePlaintext:
    """No authentication and no encryption: for networks that are secured otherwise."""

    def to_json(self) -> dict[str, Any]:
        """Return the object of the document."""
        return {"mode": "insecure_plaintext"}


_DURATIONS = frozenset(
    {
        "hubs_discover_interval",
        "deadlock_recovery_timeout",
        "migration_base_timeout",
        "shutdown_timeout",
    }
)


def mapping(given: Any, operation: str) -> dict[str, Any]:
    """Return a copy of a configuration document, or raise that it is none."""
    if not isinstance(given, Mapping):
        message = f"$: must be a mapping, not {given!r}"
        raise InvalidConfigError(message, operation=operation)
    return dict(given)


def document(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of the document that these keyword options make."""
    return {
        (f"{name}_ms" if name in _DURATIONS else name): (
            config_ms(value) if name in _DURATIONS else to_json(value)
        )
        for name, value in options.items()
        if value is not None
    }


def to_json(value: Any) -> Any:
    """Return a configuration value in the form the document has it in."""
    if hasattr(value, "to_json"):
        return value.to_json()
    if isinstance(value, timedelta):
        return config_ms(value)
    if isinstance(value, Mapping):
        mapping: Mapping[Any, Any] = value
        return {key: to_json(item) for key, item in mapping.items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        items: Sequence[Any] = value
        return [to_json(item) for item in items]
    return value
