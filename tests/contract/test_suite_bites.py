"""The contract suite bites: bugs planted in the in-memory store, and the case that each of them must fail."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from consumer.entry import Kind, Landed, OnLapse, Settled, State
from consumer.ports.store import Capabilities
from consumer.rules.states import TRANSITIONS
from consumer.stores.memory import CAPABILITIES, arrivals, data, inbox, operator, outbox, workers
from consumer.testing.contract import cases
from tests.contract.test_memory import MemoryBackend

CASES = {case.name: case for case in cases(CAPABILITIES)}
EVERYTHING = Capabilities(transactions=True, durable=True, shared=True, fifo_outbox=True, lanes=True)
NOTHING = Capabilities(transactions=False, durable=False, shared=False, fifo_outbox=False)
MUTANTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {}
replace = msgspec.structs.replace


def caught_by(*names: str):
    """The mutant must fail each of these cases."""

    def plant(mutate: Callable[[pytest.MonkeyPatch], None]):
        for name in names:
            MUTANTS[f"{mutate.__name__}-{name}"] = mutate
        return mutate

    return plant


def around(patch: pytest.MonkeyPatch, where: Any, name: str, mutant: Callable[..., Any]) -> None:
    """Replace a function by `mutant`, which gets the original one as its first argument."""
    original = getattr(where, name)
    patch.setattr(where, name, lambda *args, **kwargs: mutant(original, *args, **kwargs))


@caught_by(
    "settles.a_wrong_token_is_lost_whatever_the_kind", "late.a_fenced_holder_cannot_end_what_another_started"
)
def settles_compare_no_token(patch):
    def settle(original, self, one):
        row = self._data.rows.get(one.identity)
        return original(self, one if row is None else replace(one, token=row.token))

    around(patch, inbox.MemoryInbox, "_settle", settle)


@caught_by("claims.the_same_claim_again_is_the_same_win")
def claims_have_no_nonce(patch):
    around(
        patch,
        inbox.MemoryInbox,
        "_judge",
        lambda judge, self, row, one: judge(self, row, replace(one, nonce=-1)),
    )


@caught_by("claims.another_nonce_is_held", "claims.of_two_handles_exactly_one_wins")
def a_running_key_is_won_again(patch):
    def judge(original, self, row, one):
        nonce = one.nonce if row is None or row.nonce is None else row.nonce
        return original(self, row, replace(one, nonce=nonce))

    around(patch, inbox.MemoryInbox, "_judge", judge)


@caught_by(
    "claims.another_payload_conflicts_in_every_state", "claims.a_known_nonce_does_not_excuse_another_payload"
)
def a_conflict_is_a_duplicate(patch):
    def judge(original, self, row, one):
        return original(self, row, one if row is None else replace(one, fingerprint=row.fingerprint))

    around(patch, inbox.MemoryInbox, "_judge", judge)


@caught_by("claims.another_raw_key_conflicts_in_every_state")
def raw_keys_are_not_compared(patch):
    def judge(original, self, row, one):
        return original(self, row, one if row is None else replace(one, key=row.key))

    around(patch, inbox.MemoryInbox, "_judge", judge)


@caught_by("claims.tokens_rise_after_a_purge", "claims.tokens_rise_over_keys_and_handles")
def each_entry_counts_its_own_tokens(patch):
    def start(original, store, row, *args):
        token = row.token + 1
        original(store, row, *args)
        row.token = token

    around(patch, inbox, "start", start)


@caught_by("claims.a_closed_worker_claims_nothing", "arrivals.a_closed_worker_takes_nothing")
def closed_workers_may_claim(patch):
    patch.setattr(data.MemoryData, "refuse_closed", lambda self, worker: None)


@caught_by("claims.a_waiting_entry_with_bytes_is_held_until_it_is_due")
def claims_do_not_wait_until_due(patch):
    patch.setattr(inbox.MemoryInbox, "_due", lambda self, row: True)


@caught_by("settles.settles_come_before_claims")
def claims_come_before_settles(patch):
    async def turn(self, worker, settles, claims):
        self._data.refuse_closed(worker)
        answers = [self._claim(worker, one) for one in claims]
        return [self._settle(one) for one in settles], answers

    patch.setattr(inbox.MemoryInbox, "turn", turn)


@caught_by("settles.a_lost_complete_sends_and_lands_nothing")
def outgoing_messages_are_inserted_eagerly(patch):
    def settle(original, self, one):
        data.send(self._data, self._app, one.outgoing)
        return original(self, replace(one, outgoing=()))

    around(patch, inbox.MemoryInbox, "_settle", settle)


@caught_by("settles.a_repeated_complete_is_ok_and_does_nothing_again")
def a_lost_reply_is_lost(patch):
    patch.setattr(
        inbox, "_aim", lambda row, kind, aim=inbox._aim: None if row.state is State.DONE else aim(row, kind)
    )


@caught_by("late.a_settle_that_finds_its_state_brings_the_bytes", "settles.attach_brings_missing_bytes_once")
def bytes_are_forgotten(patch):
    patch.setattr(inbox, "keep_bytes", lambda row, message: None)


@caught_by("settles.attach_brings_missing_bytes_once", "claims.a_claim_does_not_replace_bytes")
def bytes_are_replaced(patch):
    def keep(row, message):
        row.message = message

    patch.setattr(inbox, "keep_bytes", keep)


@caught_by("settles.release_to_received", "settles.release_to_waiting")
def a_release_counts_as_an_attempt(patch):
    def release(original, self, row, now):
        original(self, row, now)
        row.attempts += 1

    around(patch, inbox.MemoryInbox, "_release", release)


@caught_by("late.late_settlements_by_the_same_token_count", "states.complete_on_every_state")
def late_settlements_are_discarded(patch):
    kept = {pair: aims for pair, aims in TRANSITIONS.items() if pair[0] is not State.IN_DOUBT}
    patch.setattr(inbox, "TRANSITIONS", kept)


@caught_by("late.a_resolution_refuses_late_settlements")
def a_second_effect_is_not_told(patch):
    around(
        patch,
        inbox,
        "tell",
        lambda tell, row, at, event, *args, **kw: (
            event.startswith("second") or tell(row, at, event, *args, **kw)
        ),
    )


@caught_by("late.other_lost_completions_raise_no_suspicion")
def every_lost_completion_is_suspected(patch):
    def settle(original, self, one):
        said, row = original(self, one), self._data.rows.get(one.identity)
        if said is Settled.LOST and one.kind is Kind.COMPLETE and row is not None:
            data.tell(row, 0.0, "second_effect_suspected")
        return said

    around(patch, inbox.MemoryInbox, "_settle", settle)


@caught_by("late.a_resolution_refuses_late_settlements", "doubts.resolved_to_done")
def a_resolution_keeps_the_token(patch):
    def resolve(original, store, one):
        said = original(store, one)
        if said:
            store.rows[one.identity].token = one.token
        return said

    around(patch, operator, "_resolve", resolve)


@caught_by("doubts.of_two_resolutions_one_counts", "doubts.a_resolution_compares_the_token")
def resolutions_compare_nothing(patch):
    def resolve(original, store, one):
        row = store.rows[one.identity]
        row.state = State.IN_DOUBT
        return original(store, replace(one, token=row.token))

    around(patch, operator, "_resolve", resolve)


@caught_by("doubts.a_doubt_is_asked_about_once_a_lease", "doubts.two_handles_never_ask_about_the_same")
def asking_takes_no_lease(patch):
    around(
        patch,
        operator.MemoryDoubts,
        "ask",
        lambda ask, self, handlers, limit, lease, tries: ask(self, handlers, limit, 0.0, tries),
    )


@caught_by("doubts.a_doubt_is_asked_about_so_many_times")
def doubts_are_asked_about_for_ever(patch):
    around(
        patch,
        operator.MemoryDoubts,
        "ask",
        lambda ask, self, handlers, limit, lease, tries: ask(self, handlers, limit, lease, 10**9),
    )


@caught_by("states.purge_on_every_state", "operator.purge_forgets_old_done_entries")
def purge_forgets_what_runs(patch):
    async def purge(self, *, app, handler, older_than, limit):
        old = [one for one, row in self._data.rows.items() if row.created_at < self._data.now() - older_than]
        for identity in old[:limit]:
            del self._data.rows[identity]
        return len(old[:limit])

    patch.setattr(operator.MemoryOperator, "purge", purge)


@caught_by("operator.redrive_compares_the_token", "states.redrive_on_every_state")
def redrive_compares_nothing(patch):
    def redrive(original, self, identity, token, reason):
        row = self._data.rows.get(identity)
        if row is not None:
            row.state, token = State.DEAD, row.token
        return original(self, identity, token, reason)

    around(patch, operator.MemoryOperator, "redrive", redrive)


@caught_by("arrivals.due_is_a_claim", "arrivals.two_handles_never_take_the_same")
def due_does_not_claim(patch):
    patch.setattr(arrivals, "start", lambda *args: None)


@caught_by("arrivals.due_yields_only_entries_with_bytes", "doubts.the_permission_waits_for_missing_bytes")
def due_yields_entries_without_bytes(patch):
    def due(rows, now):
        return (row for row in list(rows) if row.due_at is not None and row.due_at <= now)

    patch.setattr(arrivals, "due_rows", due)


@caught_by("arrivals.a_delayed_landing_is_not_due_before", "settles.retry_waits_for_its_delay")
def nothing_waits(patch):
    around(patch, arrivals, "due_rows", lambda due, rows, now: due(rows, float("inf")))


@caught_by(
    "lanes.only_the_head_of_a_lane_is_due",
    "lanes.what_waits_holds_its_lane",
    "lanes.what_is_in_doubt_holds_its_lane",
)
def due_ignores_lanes(patch):
    patch.setattr(arrivals, "behind", lambda store, row: None)


@caught_by("lanes.a_claim_of_what_stands_behind_is_held")
def claims_ignore_lanes(patch):
    patch.setattr(inbox, "behind", lambda store, row: None)


@caught_by("lanes.the_dead_free_their_lane", "lanes.a_lapse_that_buries_frees_the_lane")
def the_dead_hold_their_lane(patch):
    patch.setattr(data, "FINISHED", frozenset({State.ABSENT, State.DONE}))


@caught_by("lanes.a_redriven_entry_joins_at_the_end")
def a_redriven_entry_keeps_its_place(patch):
    patch.setattr(operator, "join", lambda *args: None)


@caught_by("arrivals.the_oldest_due_comes_first")
def due_has_no_order(patch):
    around(patch, arrivals, "due_rows", lambda due, rows, now: reversed(list(due(rows, now))))


@caught_by("arrivals.a_conflict_is_born_dead_beside_the_entry")
def a_conflict_leaves_no_trace(patch):
    def land(original, store, app, one):
        there = one.identity in store.rows and store.rows[one.identity].fingerprint != one.fingerprint
        return Landed.CONFLICT if there else original(store, app, one)

    around(patch, arrivals, "land", land)


@caught_by("workers.a_closed_worker_never_revives", "workers.a_lapsed_worker_never_revives")
def a_beat_revives(patch):
    async def beat(self, worker):
        row = self._data.workers.get(worker)
        if row is None:
            return False
        row.closed, row.beat_at, row.beats = False, self._data.now(), row.beats + 1
        return True

    patch.setattr(workers.MemoryWorkers, "beat", beat)


@caught_by("workers.only_silent_workers_lapse")
def everybody_lapses(patch):
    async def lapse(self):
        for row in self._data.workers.values():
            row.closed = True
        return [number for number in self._data.workers if self._running(number)]

    patch.setattr(workers.MemoryWorkers, "lapse", lapse)


@caught_by("workers.adopt_leaves_the_claims_of_open_workers")
def adopt_takes_from_open_workers(patch):
    async def adopt(self, limit, patience=None):
        everybody = itertools.chain.from_iterable(self._running(number) for number in self._data.workers)
        return [self._lapse(row, {}) for row in list(everybody)[:limit]]

    patch.setattr(workers.MemoryWorkers, "adopt", adopt)


@caught_by("workers.a_lapse_with_a_spent_budget_buries")
def a_lapse_costs_nothing(patch):
    def lapse(original, self, row, patience):
        row.attempts -= 1
        return original(self, row, patience)

    around(patch, workers.MemoryWorkers, "_lapse", lapse)


@caught_by("workers.a_lapse_to_in_doubt")
def every_lapse_is_started_again(patch):
    def lapse(original, self, row, patience):
        row.on_lapse = OnLapse.WAITING
        return original(self, row, patience)

    around(patch, workers.MemoryWorkers, "_lapse", lapse)


@caught_by(
    "outbox.a_parked_message_holds_back_its_key_only", "outbox.a_delayed_message_holds_back_its_key_only"
)
def nothing_is_held_back(patch):
    def take(original, self, worker, limit):
        for row in self._data.outbox.values():
            if row.pending.parked is None and row.due_at <= self._data.now():
                row.pending = replace(row.pending, outgoing=replace(row.pending.outgoing, ordering_key=None))
        return original(self, worker, limit)

    around(patch, outbox.MemoryOutbox, "take", take)


@caught_by("outbox.a_shard_has_one_owner", "outbox.the_shards_of_a_lapsed_worker_are_taken_over")
def everybody_owns_every_shard(patch):
    def take(original, self, worker, limit):
        self._data.owners.clear()
        return original(self, worker, limit)

    around(patch, outbox.MemoryOutbox, "take", take)


@caught_by("outbox.the_shards_of_a_closed_worker_are_taken_over")
def shards_are_never_taken_over(patch):
    def take(original, self, worker, limit):
        first = next(iter(self._data.owners.values()), worker)
        return original(self, worker, limit if first == worker else 0)

    around(patch, outbox.MemoryOutbox, "take", take)


@pytest.mark.parametrize("mutant", MUTANTS)
async def test_a_planted_bug_fails_its_case(mutant, monkeypatch):
    case = CASES[mutant.partition("-")[2]]
    await case.run(MemoryBackend())
    MUTANTS[mutant](monkeypatch)
    with pytest.raises(AssertionError):
        await case.run(MemoryBackend())


def test_names_are_sentences_of_their_own():
    names = [case.name for case in cases(EVERYTHING)]
    assert len(names) == len(set(names))
    assert all(case.steps.__doc__ or case.name.startswith("states.") for case in cases(EVERYTHING))


def test_a_flag_leaves_out_what_it_denies():
    every, bare = cases(EVERYTHING), cases(NOTHING)
    assert {case.name for case in bare} < {case.name for case in every}
    assert {flag for case in every for flag in case.needs} == {
        "transactions",
        "durable",
        "shared",
        "fifo_outbox",
        "lanes",
    }
    assert not any(case.needs for case in bare)


async def test_a_case_refuses_a_store_without_its_flags():
    case = next(case for case in cases(EVERYTHING) if case.needs)
    bare = SimpleNamespace(capabilities=NOTHING)
    with pytest.raises(ValueError, match="needs"):
        await case.run(bare)
