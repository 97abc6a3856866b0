from __future__ import annotations

import json
from dataclasses import replace

import pytest

from metrics_lake.commits import DataFileBuilder, Intent, TableLog, commit, may_contain, write_checkpoint
from metrics_lake.commits.log import ANCHOR_SECONDS
from metrics_lake.errors import CommitConflictError, CommitUnknownError, PermissionDeniedError, StorageError
from metrics_lake.layout import log_key


class Clock:
    now = 5000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def log(world, clock):
    return TableLog(world.storage, "metrics", boot_clock=clock)


@pytest.fixture
def new_file(world, make):
    def new_file(number, first=0, last=9):
        builder = DataFileBuilder("metrics", "2023-11", with_float_stats=True)
        builder.add(make.rows(make.writer(number), first, last, resource=f"run-{number}"))
        data, new = builder.finish()
        world.storage.put_new(new.file.key, data)
        return new

    return new_file


@pytest.fixture
def run(log):
    """Commit an intent on a base and return the version."""

    def run(intent, base=None):
        return commit(log, log.refresh() if base is None else base, intent, sleep=lambda seconds: None)

    return run


@pytest.fixture
def table(run, new_file, log, make):
    """Return a table with three files and its snapshot."""
    files = [new_file(number) for number in range(3)]
    run(Intent("WRITE", adds=tuple(files), consumed={make.writer(0): ((0, 9),)}))
    return log.refresh()


def key_of(state, index):
    return state.files[index].key


def test_a_commit_is_the_next_version_and_says_everything(run, new_file, log, make):
    new = new_file(1)
    writer = make.writer(1)
    intent = Intent(
        "WRITE", adds=(new,), consumed={writer: ((0, 9),)}, txns={"ml:bulk:k": 0}, ended={writer: 0}
    )
    assert run(intent) == 0
    state = log.refresh()
    assert state.files == (new.file,)
    assert state.consumed(writer) == ((0, 9),)
    assert state.transactions.get("ml:bulk:k") == 0
    assert state.transactions.ended_writers() == [writer]
    assert run(Intent("OPTIMIZE", removes=(new.file.key,), data_change=False)) == 1
    state = log.refresh()
    assert state.files == ()
    assert state.tombstones[new.file.key]["dataChange"] is False


# -- the conflict rule: every pair of kinds --------------------------------------------------------------


def compact(make, writer=7, first=0):
    return lambda state, new: Intent(
        "WRITE", adds=(new,), consumed={make.writer(writer): ((first, first + 9),)}
    )


def merge(index):
    return lambda state, new: Intent(
        "OPTIMIZE", adds=(new,), removes=(key_of(state, index),), data_change=False
    )


def delete(resource, index=None):
    def intent(state, new):
        removes = () if index is None else (key_of(state, index),)
        return Intent("DELETE", removes=removes, may_match=lambda file: may_contain(file.bloom, resource))

    return intent


def copy(resource):
    return lambda state, new: Intent("WRITE", adds=(new,), txns={f"ml:copy:{resource}": 1})


def pairs(make):
    return [
        # (first committer, second committer, does the second start over?)
        (compact(make, 7), compact(make, 7), True),
        (compact(make, 7), compact(make, 8), False),
        (compact(make, 7), compact(make, 7, first=20), True),
        (merge(0), merge(0), True),
        (merge(0), merge(1), False),
        (merge(0), compact(make, 7), False),
        (compact(make, 7), merge(0), False),
        (merge(0), delete("run-0", 0), True),
        (delete("run-0", 0), merge(0), True),
        (compact(make, 7), delete("run-50"), True),  # the winner's file holds run-50
        (compact(make, 7), delete("run-999"), False),
        (delete("run-999"), compact(make, 7), False),
        (copy("a"), copy("a"), True),
        (copy("a"), copy("b"), False),
        (lambda state, new: Intent("WRITE", adds=(new,), txns={"ml:bulk:k": 0}),) * 2 + (True,),
    ]


@pytest.mark.parametrize("index", range(15))
def test_the_second_of_two_commits_starts_over_only_where_it_must(index, run, table, new_file, make, log):
    first, second, starts_over = pairs(make)[index]
    run(first(table, new_file(50)), table)
    intent = second(table, new_file(60))
    if starts_over:
        with pytest.raises(CommitConflictError):
            run(intent, table)
        assert log.refresh().version == table.version + 1
    else:
        assert run(intent, table) == table.version + 2
        keys = log.refresh().entries.keys()
        assert all(new.file.key in keys for new in intent.adds)


@pytest.mark.parametrize(
    "action",
    [
        {"metaData": "same"},
        {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}},
        {"remove": "first"},
    ],
)
def test_foreign_winners_obey_the_same_rule(world, run, table, new_file, action):
    if action.get("metaData"):
        action = {"metaData": dict(table.metadata)}
    if action.get("remove"):
        action = {"remove": {"path": key_of(table, 0).removeprefix("metrics/")}}
    world.storage.put_new(log_key("metrics", 1), json.dumps(action).encode())
    with pytest.raises(CommitConflictError):
        run(merge(0)(table, new_file(9)), table)


def test_a_fenced_file_can_never_be_added(run, table, new_file):
    new = new_file(9)
    run(Intent("FENCE", fences=(new.file.key,)), table)
    with pytest.raises(CommitConflictError, match="fenced"):
        run(Intent("WRITE", adds=(new,)), table)


def test_a_fence_loses_against_the_commit_that_adds_its_file(run, table, new_file):
    new = new_file(9)
    run(Intent("WRITE", adds=(new,)), table)
    with pytest.raises(CommitConflictError, match="added"):
        run(Intent("FENCE", fences=(new.file.key,)), table)


def test_two_first_commits_make_one_table(run, log, new_file, make):
    empty = log.refresh()
    run(compact(make, 1)(empty, new_file(1)), empty)
    with pytest.raises(CommitConflictError, match="metadata"):
        run(compact(make, 2)(empty, new_file(2)), empty)


# -- what became of the PUT ------------------------------------------------------------------------------


class Answers:
    """Interferes with the PUT of commits: one entry for each attempt."""

    def __init__(self, storage, *script):
        self.storage = storage
        self.script = list(script)
        self.original = storage.put_new
        storage.put_new = self.put_new
        self.late = []

    def put_new(self, key, data):
        what = self.script.pop(0) if "_delta_log" in key and self.script else None
        if what == "lost answer":
            self.original(key, data)
            raise StorageError("The answer was lost.")
        if what == "hidden retry":
            self.original(key, data)
            return self.original(key, data)
        if what == "never arrives":
            raise StorageError("The store is down.")
        if what == "arrives later":
            self.late.append((key, bytes(data)))
            raise StorageError("It timed out.")
        if what == "refused":
            raise PermissionDeniedError("No.")
        if callable(what):
            what()
            raise StorageError("It timed out, and somebody else was faster.")
        return self.original(key, data)

    def land(self):
        return [self.original(key, data) for key, data in self.late]


@pytest.mark.parametrize(
    "script", [["lost answer"], ["hidden retry"], ["never arrives"] * 5, ["arrives later"]]
)
def test_a_commit_whose_answer_was_lost_happens_exactly_once(world, run, table, new_file, log, make, script):
    answers = Answers(world.storage, *script)
    new = new_file(9)
    assert run(Intent("WRITE", adds=(new,), consumed={make.writer(9): ((0, 9),)}), table) == 1
    assert not any(answers.land())
    assert log.refresh().version == 1
    assert [file.key for file in log.refresh().files].count(new.file.key) == 1


def test_a_late_put_cannot_be_a_second_commit_when_somebody_else_took_the_version(
    world, run, table, new_file, log
):
    other = new_file(8)

    def somebody_else():
        body = {"add": {"path": other.file.key.removeprefix("metrics/"), "size": 1}}
        answers.original(log_key("metrics", 1), json.dumps(body).encode())

    answers = Answers(world.storage, "arrives later", somebody_else)
    new = new_file(9)
    assert run(Intent("WRITE", adds=(new,)), table) == 2
    assert answers.land() == [False]
    assert [file.key for file in log.refresh().files].count(new.file.key) == 1


def test_an_unknown_outcome_is_said_and_the_next_run_sees_what_became_of_it(world, run, table, new_file, log):
    answers = Answers(world.storage, "arrives later", *["never arrives"] * 20)
    with pytest.raises(CommitUnknownError):
        run(Intent("WRITE", adds=(new_file(9),)), table)
    assert log.refresh().version == 0
    assert answers.land() == [True]
    assert log.refresh().version == 1


def test_a_refused_first_put_is_certain(world, run, table, new_file):
    Answers(world.storage, "refused")
    with pytest.raises(PermissionDeniedError):
        run(Intent("WRITE", adds=(new_file(9),)), table)


# -- the anchor ------------------------------------------------------------------------------------------


def move_on_and_clean_up(world, table, versions=5):
    """Let another engine commit, checkpoint and take away every version that the handle knows."""
    other = TableLog(world.storage, "metrics")
    for _ in range(versions):
        commit(other, other.refresh(), Intent("WRITE"), sleep=lambda seconds: None)
    write_checkpoint(other, other.refresh())
    newest = other.refresh().version
    world.storage.delete([log_key("metrics", version) for version in range(newest)])
    return newest


@pytest.mark.parametrize("seconds_later", [0, ANCHOR_SECONDS + 1])
def test_a_stale_handle_does_not_commit_into_a_past_that_was_cleaned_up(
    world, run, table, new_file, clock, seconds_later
):
    newest = move_on_and_clean_up(world, table)
    clock.now += seconds_later
    with pytest.raises(CommitConflictError, match="cleaned up"):
        run(compact_nothing(new_file(9)), table)
    assert log_key("metrics", 1) not in world.storage.objects
    assert TableLog(world.storage, "metrics").refresh().version == newest


def compact_nothing(new):
    return Intent("WRITE", adds=(new,))


def test_a_first_commit_is_not_made_where_the_first_versions_were_cleaned_up(
    world, run, log, new_file, clock
):
    empty = log.refresh()
    other = TableLog(world.storage, "metrics")
    commit(other, other.refresh(), Intent("WRITE"), sleep=lambda seconds: None)
    move_on_and_clean_up(world, None)
    with pytest.raises(CommitConflictError, match="cleaned up"):
        run(Intent("WRITE", adds=(new_file(9),)), empty)


def test_a_process_that_was_stopped_right_before_its_put_notices_that_it_wrote_into_the_past(
    world, run, table, new_file, log
):
    original = world.storage.put_new

    def stopped(key, data):
        if key == log_key("metrics", 1):
            world.storage.put_new = original
            move_on_and_clean_up(world, table)
        return original(key, data)

    world.storage.put_new = stopped
    new = new_file(9)
    with pytest.raises(CommitConflictError, match="cleaned up"):
        run(Intent("WRITE", adds=(new,)), table)
    assert new.file.key not in log.refresh().entries


def test_a_commit_on_a_table_of_which_only_the_checkpoint_is_left_succeeds(
    world, table, new_file, log, clock
):
    write_checkpoint(log, table)
    world.storage.delete([log_key("metrics", 0)])
    cold = TableLog(world.storage, "metrics", boot_clock=clock)
    state = cold.refresh()
    assert commit(cold, state, Intent("WRITE", adds=(new_file(9),)), sleep=lambda seconds: None) == 1
    assert len(cold.refresh().files) == 4


# -- planted defects: each invariant's test must notice its mutant ---------------------------------------


@pytest.mark.parametrize("blind_to", ["consumed", "removes", "txns", "fences", "may_match"])
def test_a_rule_that_is_blind_to_one_clause_is_noticed(blind_to, run, table, new_file, make, monkeypatch):
    """Take one clause out of the rule and see that exactly its conflicts go unseen."""
    from metrics_lake.commits import transaction

    rule = transaction.conflict_of
    empty = {"consumed": {}, "removes": (), "txns": {}, "fences": (), "may_match": None}[blind_to]

    def blind(intent, winner, name):
        if blind_to == "fences":
            winner = replace(winner, info={})
        return rule(replace(intent, **{blind_to: empty}), winner, name)

    new = new_file(60)
    cases = {
        "consumed": (compact(make, 7)(table, new_file(50)), compact(make, 7)(table, new)),
        "removes": (merge(0)(table, new_file(50)), merge(0)(table, new)),
        "txns": (copy("a")(table, new_file(50)), copy("a")(table, new)),
        "fences": (Intent("FENCE", fences=(new.file.key,)), Intent("WRITE", adds=(new,))),
        "may_match": (compact(make, 7)(table, new_file(50)), delete("run-50")(table, new)),
    }
    first, second = cases[blind_to]
    run(first, table)
    monkeypatch.setattr(transaction, "conflict_of", blind)
    run(second, table)  # the mutant commits what the rule refuses
    monkeypatch.undo()
    with pytest.raises(CommitConflictError):
        run(second, table)
