"""The metrics, as data: names, kinds, labels and what they say. `docs/metrics.md` is made of this table."""

from __future__ import annotations

import enum

import msgspec

from consumer.entry import State

__all__ = ["FAMILIES", "OUTCOMES", "STATES", "WAITS", "Family", "Kind", "Outcome"]


class Kind(enum.Enum):
    """What may be done with a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Family(msgspec.Struct, frozen=True):
    """One metric.

    Attributes:
        name: as it is queried; a histogram's without `_bucket`, `_sum` and `_count`.
        kind: see `Kind`.
        labels: its labels. Never a key, a tenant or a reason: their number has no bound.
        text: what it says.
        told_by: `process`: sum over processes. `store`: every process tells the same, so take the maximum.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    text: str
    told_by: str = "process"


class Outcome(enum.IntEnum):
    """How a delivery ended at a handler; the value is its place in a row of counters."""

    DONE = 0
    DUPLICATE = 1
    CONFLICT = 2
    WAITING = 3
    DEAD = 4
    IN_DOUBT = 5
    LOST = 6
    RELEASED = 7

    @property
    def word(self) -> str:
        """The label's value."""
        return self.name.lower()


OUTCOMES = tuple(outcome.word for outcome in Outcome)

STATES = (State.RECEIVED, State.RUNNING, State.WAITING, State.DONE, State.IN_DOUBT, State.DEAD)
"""The states that `consumer_entries` counts."""

WAITS = tuple(state for state in STATES if state is not State.DONE)
"""The states of which the oldest entry matters."""

_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM

FAMILIES: tuple[Family, ...] = (
    Family(
        "consumer_outcomes_total",
        _C,
        ("handler", "mode", "outcome"),
        "Deliveries that have come to an end at a handler, by outcome: `done`, `duplicate` (it started nothing), `conflict` "
        "(the key is another payload's), `waiting` (it will be tried again), `dead`, `in_doubt`, `lost` (another worker has the "
        "claim), `released` (nothing has happened). Entries of dead workers count where they are adopted.",
    ),
    Family(
        "consumer_handler_seconds",
        _H,
        ("handler",),
        "How long handlers ran, whatever their outcome.",
    ),
    Family(
        "consumer_end_to_end_seconds",
        _H,
        ("handler",),
        "From the moment the broker took a message, by its clock, until its entry was done here. Not told of messages that no "
        "broker has stamped (embedded topics, HTTP).",
    ),
    Family("consumer_running", _G, ("handler",), "Handlers that run now; a batch is one."),
    Family("consumer_stuck_handlers", _G, (), "Handlers that ignore their cancellation and run on."),
    Family(
        "consumer_lag_messages",
        _G,
        ("topic", "partition"),
        "Offsets from the first unfinished message to the end of each partition that is assigned to this process.",
    ),
    Family(
        "consumer_lag_seconds",
        _G,
        ("topic",),
        "How long the first unfinished message has been in the broker, the worst partition of this process.",
    ),
    Family("consumer_entries", _G, ("handler", "state"), "Entries in the store.", "store"),
    Family(
        "consumer_oldest_entry_seconds",
        _G,
        ("handler", "state"),
        "Age of the oldest entry in this state, since it was made; 0 where there is none.",
        "store",
    ),
    Family(
        "consumer_lanes_waiting",
        _G,
        ("handler",),
        "Ordering keys of which something waits in this process for a connection or a slot.",
    ),
    Family("consumer_outbox_backlog", _G, (), "Outgoing messages that wait for a relay.", "store"),
    Family(
        "consumer_outbox_parked", _G, (), "Outgoing messages that the sink has refused for good.", "store"
    ),
    Family(
        "consumer_outbox_oldest_seconds",
        _G,
        (),
        "Age of the oldest outgoing message that waits; 0 where none does.",
        "store",
    ),
    Family(
        "consumer_published_total",
        _C,
        (),
        "Outgoing messages that the sink has acknowledged to this process.",
    ),
    Family(
        "consumer_unrouted_total",
        _C,
        (),
        "Messages to embedded topics that nobody subscribes to, which went nowhere; the log names each topic once. An attempt "
        "that is repeated counts again.",
    ),
    Family("consumer_rebalances_total", _C, (), "How often Kafka has assigned partitions to this process."),
    Family(
        "consumer_ingest_results_total",
        _C,
        ("provider", "result"),
        "Webhook requests by what became of them: `landed`, `forwarded` (to the broker), `duplicate`, `ignored` (not translated, "
        "or a greeting), `conflict`, "
        "`rejected`, `failed` (by the application), `unread`, `unavailable`, or why the gate refused: `mismatch`, `missing`, …",
    ),
    Family(
        "consumer_ingest_secret_matches_total",
        _C,
        ("provider", "secret"),
        "Authentic webhook requests, by which of the provider's secrets matched, counted from 0: an old one that matches no "
        "more can be taken away.",
    ),
    Family(
        "consumer_worker_lapses_total",
        _C,
        (),
        "Workers that died without saying so, as this process has found them.",
    ),
    Family(
        "consumer_purged_total",
        _C,
        ("handler",),
        "Done entries that this process has forgotten after their retention.",
    ),
    Family(
        "consumer_loop_lag_seconds",
        _G,
        (),
        "The longest time for which the event loop was held in the last 15 seconds, as it is now.",
    ),
    Family("consumer_ready", _G, (), "1 where `/readyz` says 200, else 0."),
    Family("consumer_build_info", _G, ("version", "python"), "Always 1; the labels say what runs."),
)
