"""Decisions on disk: against a plain replay, killed, locked, and on full disks."""

import errno
import inspect
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from mmwood.fileio.candidates import (
    STATES,
    Candidate,
    read_manifest,
    unlooked_path,
    write_manifest,
)
from mmwood.fileio.journal import LockedError, SaveError, journal_path
from mmwood.ood.review.counts import Counts, ReviewRows
from mmwood.ood.review.decisions import Review

REPOSITORY = Path(__file__).parents[2]
CLASSES = ("boat", "train", "cow")


def make_manifest(path: Path, count: int = 30, states=("unseen",)) -> Path:
    """Images of one to three classes each; some names need quoting."""
    rows = [
        Candidate(
            image=f'images/{number // 2}, "ü".jpg',
            class_name=CLASSES[(number + number // 2) % 3],
            probability=1 - number / 1000,
            rank=number + 1,
            state=states[number % len(states)],
            sha256=f"{number:064x}",
        )
        for number in range(count)
    ]
    write_manifest(path, rows)
    return path


def states_of(path: Path) -> list[str]:
    return [row.state for _, row in read_manifest(path)]


def pending(path: Path) -> int:
    """How many decisions a journal holds."""
    lines = journal_path(path).read_text().splitlines()
    return sum("format" not in json.loads(line) for line in lines)


class Reference:
    """All decisions in a list, replayed from the beginning for every answer."""

    def __init__(self, states: list[str], unlooked: set[int] = frozenset()) -> None:
        self.initial = states
        self.initial_unlooked = unlooked
        self.decisions: list[list] = []

    def decide(self, rows: list[int], state: str, who: str, looked_at=None) -> None:
        looked_at = rows if looked_at is None else looked_at
        self.decisions.append([rows, state, who, False, looked_at])

    def undo(self, who: str) -> None:
        for decision in reversed(self.decisions):
            if decision[2] == who and not decision[3]:
                decision[3] = True
                return

    def states(self) -> list[str]:
        states = list(self.initial)
        for rows, state, _, undone, _ in self.decisions:
            for row in rows:
                if not undone:
                    states[row] = state
        return states

    def unlooked(self) -> set[int]:
        """Decided rows that nobody looked at."""
        rows_of = set(self.initial_unlooked)
        for rows, _, _, undone, looked_at in self.decisions:
            if not undone:
                rows_of = (rows_of - set(rows)) | (set(rows) - set(looked_at))
        return {row for row in rows_of if self.states()[row] != "unseen"}


def unlooked_of(review: Review) -> set[int]:
    pairs = enumerate(zip(review.states, review.looked))
    return {row for row, (state, looked) in pairs if state and not looked}


def script(seed: int, count: int) -> Iterator[tuple]:
    """Random steps of a review: one row, a range, a group, undo, by two people."""
    rng = random.Random(seed)
    while True:
        who = rng.choice(["tab 1", "tab 2"])
        kind = rng.choice(["one", "range", "group", "undo"])
        if kind == "undo":
            yield "undo", who
            continue
        first = rng.randrange(count)
        last = first if kind == "one" else rng.randrange(first, count)
        rows = list(range(first, last + 1))
        step = "decide", rows, rng.choice(STATES), who
        # Some of a group are shown.
        yield (*step, rows[1::3]) if kind == "group" else step


@pytest.mark.parametrize("seed", range(5))
def test_random_decisions_equal_a_plain_replay(tmp_path, seed):
    manifest = make_manifest(tmp_path / "ood.csv", states=STATES)
    before = [row for _, row in read_manifest(manifest)]
    review = Review(manifest)
    reference = Reference([row.state for row in before])
    changed: set[int] = set()
    review.listeners.append(changed.update)
    steps = script(seed, 30)
    for number in range(300):
        name, *arguments = next(steps)
        shown = bytes(review.states)
        changed.clear()
        getattr(review, name)(*arguments)
        getattr(reference, name)(*arguments)
        expected = [STATES.index(state) for state in reference.states()]
        assert list(review.states) == expected
        assert unlooked_of(review) == reference.unlooked()
        # Every tab is told about every change.
        assert changed >= {row for row in range(30) if shown[row] != expected[row]}
        if number % 60 == 59:
            review.save()
            assert not review.pending
            assert states_of(manifest) == reference.states()
    review.close()
    assert not journal_path(manifest).exists()
    # The next one knows which rows nobody looked at.
    again = Review(manifest)
    assert unlooked_of(again) == reference.unlooked()
    again.close()
    assert unlooked_path(manifest).exists() == bool(reference.unlooked())
    after = [row for _, row in read_manifest(manifest)]
    for row, old, state in zip(after, before, reference.states(), strict=True):
        old.state = state
        assert row == old


def test_undo_leaves_what_somebody_else_decided_later(tmp_path):
    review = Review(make_manifest(tmp_path / "ood.csv"))
    assert review.undo("a") == []
    review.decide([0, 1, 2], "kept", "a")
    review.decide([1], "rejected", "b")
    assert review.undo("a") == [0, 1, 2]
    assert list(review.states[:3]) == [0, 2, 0]
    # Below it is now what was there before both.
    assert review.undo("b") == [1]
    assert list(review.states[:3]) == [0, 0, 0]
    assert review.undo("a") == []
    for rows, state in (([], "kept"), ([30], "kept"), ([-1], "kept"), ([0], "good")):
        with pytest.raises(ValueError, match="must be"):
            review.decide(rows, state)
    review.close()


@pytest.mark.parametrize("seed", range(5))
def test_what_is_shown_and_counted_equals_plain_loops(tmp_path, seed):
    manifest = make_manifest(tmp_path / "ood.csv", states=STATES)
    review = Review(manifest)
    table = ReviewRows(review)
    steps = script(seed, 30)
    for _ in range(20):
        name, *arguments = next(steps)
        getattr(review, name)(*arguments)
    rows = [row for _, row in read_manifest(manifest)]
    for row, code in zip(rows, review.states):
        row.state = STATES[code]
    bad = {row.image for row in rows if row.state == "rejected"}
    for number, class_name in enumerate([*review.classes, None]):
        index = None if class_name is None else number
        own = [row for row in rows if class_name in (row.class_name, None)]
        kept = [row for row in own if row.state == "kept"]
        usable = {row.image for row in kept} - bad
        counts = table.counts(index)
        assert (counts.kept, counts.usable) == (len(kept), len(usable))
        assert counts.rejected == sum(row.state == "rejected" for row in own)
        assert counts.unseen == len(own) - counts.kept - counts.rejected
        unseen = unlooked_of(review)
        looks = [
            row
            for place, row in enumerate(rows)
            if row in own and row.state != "unseen" and place not in unseen
        ]
        assert counts.looked_at == len(looks)
        if looks:
            rejected = sum(row.state == "rejected" for row in looks)
            assert counts.positive_rate == rejected / len(looks)
            rest = counts.unseen * len(looks) / (counts.kept + counts.rejected)
            assert counts.looks_for_all() == pytest.approx(rest)
            if usable:
                looks = 10 * len(looks) / len(usable)
                assert counts.looks_left(counts.usable + 10) == pytest.approx(looks)
        chosen = table.choose(index, "kept", 0.98, 0.99).tolist()
        expected = [row for row in kept if 0.98 <= row.probability <= 0.99]
        expected.sort(
            key=lambda r: (review.classes.index(r.class_name), -r.probability)
        )
        assert [rows[number] for number in chosen] == expected
    table.faults[7] = "gone"
    assert table.choose(state="missing").tolist() == [7]
    assert table.choose(state="kept", low=2).tolist() == []
    assert Counts(unseen=1, kept=0, rejected=3, usable=0).looks_left(5) is None
    assert Counts(unseen=1, kept=0, rejected=3, usable=0).positive_rate == 1
    assert Counts(unseen=1, kept=0, rejected=0, usable=0).positive_rate is None
    assert Counts(unseen=1, kept=9, rejected=0, usable=9).looks_left(5) == 0
    review.close()


# A review in a process of its own, which says what is done after it is done.
CHILD = f"""
import random, sys
from collections.abc import Iterator
from mmwood.fileio.candidates import STATES
from mmwood.ood.review.decisions import Review

{inspect.getsource(script)}
_, path, seed = sys.argv
review = Review(path)
print("ready", flush=True)
rng = random.Random(seed)
for name, *arguments in script(int(seed), len(review.images)):
    getattr(review, name)(*arguments)
    print(name, flush=True)
    if rng.random() < 0.1:
        review.save()
"""
LOADED = """
import sys
import mmwood.ood.review.decisions
print(sorted({"torch", "mmengine", "mmseg", "nicegui", "numpy"} & set(sys.modules)))
"""


@pytest.mark.parametrize("seed", range(5))
def test_images_are_told_apart_as_paths(tmp_path, seed):
    rng = random.Random(seed)
    names = {"".join(rng.choices("/.ab\n", k=rng.randint(1, 6))) for _ in range(300)}
    write_manifest(
        tmp_path / "ood.csv",
        [Candidate(name, "boat", 0.5, 1, "unseen", "0" * 64) for name in names],
    )
    review = Review(tmp_path / "ood.csv")
    table = ReviewRows(review)
    found = [table.images[number] for number in table.image_of]
    assert found == [str(Path(name)) for name in review.images]
    assert len(set(table.images)) == len(table.images)
    review.close()


def start_python(code: str, *arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=dict(os.environ, PYTHONPATH=str(REPOSITORY)),
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_killed_at_fifty_moments_loses_nothing_confirmed(tmp_path):
    assert start_python(LOADED).communicate()[0] == "[]\n"
    manifest = make_manifest(tmp_path / "ood.csv")
    rng = random.Random(0)
    states, unlooked, confirmed = states_of(manifest), set(), 0
    for moment in range(50):
        process = start_python(CHILD, manifest, moment)
        assert process.stdout.readline() == "ready\n"
        time.sleep(rng.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        count = len(process.communicate()[0].splitlines())
        confirmed += count
        # One more may have been written and not yet said.
        possible = []
        reference = Reference(states, unlooked)
        steps = script(moment, 30)
        for step in range(count + 2):
            if step >= count:
                possible.append((reference.states(), reference.unlooked()))
            name, *arguments = next(steps)
            getattr(reference, name)(*arguments)
        # The next process finds it, and so does a reader of the manifest after it.
        review = Review(manifest)
        states = [STATES[code] for code in review.states]
        unlooked = unlooked_of(review)
        assert (states, unlooked) in possible
        review.close()
        assert states_of(manifest) == states
        left = {"ood.csv", *(["ood.csv.unlooked"] if unlooked else [])}
        assert {path.name for path in tmp_path.iterdir()} == left
    assert confirmed > 100


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path):
    manifest = make_manifest(tmp_path / "ood.csv")
    first = start_python(CHILD, manifest, 0)
    assert first.stdout.readline() == "ready\n"
    link = tmp_path / "link.csv"
    link.symlink_to(manifest)
    for path in (manifest, link):
        with pytest.raises(LockedError, match=f"another process {first.pid} reviews"):
            Review(path)
    first.kill()
    first.communicate()
    review = Review(link)
    with pytest.raises(LockedError, match=str(os.getpid())):
        Review(manifest)
    review.decide(range(30), "kept")
    review.close()
    # The link is still one.
    assert link.is_symlink()
    assert states_of(manifest) == ["kept"] * 30


def test_damaged_files_are_named(tmp_path):
    manifest = make_manifest(tmp_path / "ood.csv")
    with pytest.raises(FileNotFoundError, match="no manifest"):
        Review(tmp_path / "none.csv")
    whole = manifest.read_text()
    journal = journal_path(manifest)
    first = whole.splitlines()[1]
    for text, message in (
        (whole.replace(",unseen,", ",seen,", 1), "ood.csv:2: state must be one of"),
        (whole + first + "\n", "ood.csv:32: .*'boat' before, on line 2"),
        ("a,b\n", "ood.csv:1: a manifest's header"),
    ):
        manifest.write_text(text)
        with pytest.raises(ValueError, match=message):
            Review(manifest)
        assert not journal.exists()
    manifest.write_text(whole)

    def kept(*keys: list) -> str:
        return json.dumps(dict(kept=keys)) + "\n"

    header = json.dumps(dict(format="mmwood review 1", process=1)) + "\n"
    row = ['images/0, "ü".jpg', "boat"]
    for text, message in (
        (header + "x\n" + kept(row), "journal:2: not a decision"),
        (header + '{"kept": [["a"]]}\n' + kept(row), "journal:2: not a decision"),
        (
            header + '{"kept": [["a", "b"]], "looked_at": {"kept": "c"}}\n' + kept(row),
            "journal:2: not a decision",
        ),
        (kept(row), "journal:1: expected 'mmwood review 1'"),
        (header + kept(["a", "boat"]), "journal:2: decides about 'a' as 'boat'"),
        (header + kept([row[0], "cat"]), "journal:2: decides about .* as 'cat'"),
    ):
        journal.write_text(text)
        with pytest.raises(ValueError, match=message):
            Review(manifest)
        assert journal.read_text().startswith(text)
    # A line that was cut off was never confirmed.
    for torn in ("{", kept(row)[:-1], "\0\0\0\n"):
        journal.write_text(header + kept(row) + torn)
        review = Review(manifest)
        assert review.journal.torn
        assert review.replayed == 1
        review.decide([1], "rejected")
        review.close()
        assert states_of(manifest)[:3] == ["kept", "rejected", "unseen"]
        manifest.write_text(whole)


def test_a_manifest_that_somebody_else_changed_is_not_overwritten(tmp_path):
    manifest = make_manifest(tmp_path / "ood.csv")
    review = Review(manifest)
    review.decide([3], "kept")
    # As mining again does: more rows, in another order.
    rows = [row for _, row in read_manifest(manifest)]
    new = Candidate("new.jpg", "cow", 0.5, 1, "unseen", "0" * 64)
    write_manifest(manifest, [new, *rows])
    with pytest.raises(SaveError, match="changed by another program"):
        review.save()
    review.decide([4], "rejected")
    with pytest.raises(SaveError, match="changed by another program"):
        review.close()
    assert states_of(manifest) == ["unseen"] * 31
    review = Review(manifest)
    assert review.replayed == 2
    review.close()
    assert states_of(manifest)[3:7] == ["unseen", "kept", "rejected", "unseen"]


def test_decisions_while_the_manifest_is_written_stay_in_the_journal(
    tmp_path, monkeypatch
):
    manifest = make_manifest(tmp_path / "ood.csv")
    review = Review(manifest)
    review.decide([0], "kept")
    rows = review._rows

    def meanwhile(states: bytes):
        review.decide([1], "rejected")
        return rows(states)

    monkeypatch.setattr(review, "_rows", meanwhile)
    review.save()
    monkeypatch.undo()
    assert states_of(manifest)[:2] == ["kept", "unseen"]
    assert pending(manifest) == 2
    review.close()
    assert states_of(manifest)[:2] == ["kept", "rejected"]


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """Writing a file beyond its first ``size`` bytes fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_changes_nothing_and_is_named(tmp_path):
    manifest = make_manifest(tmp_path / "ood.csv")
    before = manifest.read_bytes()
    review = Review(manifest)
    review.decide([0], "kept")
    size = journal_path(manifest).stat().st_size
    # Half of the next line fits.
    with no_file_above(size + 20):
        with pytest.raises(SaveError, match=r"ood\.csv\.journal: File too large"):
            review.decide([1], "rejected")
        assert "File too large" in review.fault
        with pytest.raises(SaveError, match="File too large"):
            review.undo()
        with pytest.raises(SaveError, match=r"ood\.csv: File too large"):
            review.save()
        assert list(review.states[:2]) == [1, 0]
        assert manifest.read_bytes() == before
        assert journal_path(manifest).stat().st_size == size
    # It goes on where there is space again.
    review.decide([2], "rejected")
    assert review.fault is None
    review.close()
    assert states_of(manifest)[:3] == ["kept", "unseen", "rejected"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ood.csv"]


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("ab", buffering=0) as file, suppress(OSError):
        while file.write(bytes(1000)):
            pass


def test_a_full_file_system(small_disk):
    manifest = make_manifest(small_disk / "ood.csv", 300)
    before = manifest.read_bytes()
    fill(small_disk / "big")
    review = Review(manifest)
    assert "No space left on device" in review.fault
    with pytest.raises(SaveError, match="No space left on device"):
        review.decide(range(300), "kept")
    assert manifest.read_bytes() == before
    assert set(review.states) == {0}
    (small_disk / "big").write_bytes(b"")
    review.decide([5], "kept")
    review.decide([6], "rejected")
    fill(small_disk / "big")
    with pytest.raises(SaveError, match=r"ood\.csv: No space left on device"):
        review.close()
    assert manifest.read_bytes() == before
    (small_disk / "big").unlink()
    Review(manifest).close()
    assert states_of(manifest)[4:8] == ["unseen", "kept", "rejected", "unseen"]


def test_a_journal_that_cannot_be_read_once_loses_nothing(tmp_path, monkeypatch):
    manifest = make_manifest(tmp_path / "ood.csv")
    review = Review(manifest)
    review.decide([5], "kept")
    # As if killed.
    review.journal._release()
    failures = 1
    read_bytes = Path.read_bytes

    def fails(path: Path) -> bytes:
        nonlocal failures
        if path == journal_path(manifest) and failures:
            failures -= 1
            raise OSError(errno.EIO, "Input/output error")
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", fails)
    review = Review(manifest)
    assert review.states[5] == 1
    failures = 1
    with pytest.raises(SaveError, match="Input/output error"):
        review.decide([6], "kept")
    review.decide([7], "rejected")
    review.close()
    assert states_of(manifest)[5:8] == ["kept", "unseen", "rejected"]


def test_a_read_only_disk_can_be_looked_at(small_disk):
    manifest = make_manifest(small_disk / "ood.csv")
    review = Review(manifest)
    review.decide([5], "kept")
    # As if killed.
    review.journal._release()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    review = Review(manifest)
    assert review.states[5] == 1
    with pytest.raises(SaveError, match="Read-only file system"):
        review.decide([6], "kept")
    with pytest.raises(SaveError, match="Read-only file system"):
        review.close()
    review = Review(manifest)
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    review.decide([6], "kept")
    review.close()
    assert states_of(manifest)[4:8] == ["unseen", "kept", "kept", "unseen"]
