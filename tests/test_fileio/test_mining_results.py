import sqlite3

import pytest

from mmwood.fileio.mining_results import (
    Finding,
    Shard,
    finished_images,
    merged,
    next_run,
)

MADE_FROM = dict(checkpoint_sha256="ab", threshold=0.5)


def test_parts_together_hold_what_each_was_given(tmp_path):
    assert next_run(tmp_path) == 0
    assert finished_images(tmp_path, MADE_FROM, 4).tolist() == [False] * 4
    first = Shard(tmp_path / "part_0000_0000.sqlite", MADE_FROM)
    assert not first.path.exists()
    first.add(
        [
            Finding(0, "a", 0.75, classes=[(1, 0.75), (4, 0.5)], sha256="x"),
            Finding(3, "d", fault="not an image"),
        ]
    )
    second = Shard(tmp_path / "part_0003_0001.sqlite", MADE_FROM)
    second.add([Finding(2, "c", 0.25)])
    # A reader sees what was added, also while the writers are open.
    assert finished_images(tmp_path, MADE_FROM, 4).tolist() == [True, False, True, True]
    first.close()
    second.close()
    # Killed before its first batch was written.
    (tmp_path / "part_0004_0000.sqlite").touch()
    assert next_run(tmp_path) == 5
    with merged(tmp_path) as db:
        images = db.execute("SELECT * FROM images ORDER BY number").fetchall()
        found = db.execute("SELECT * FROM found ORDER BY class").fetchall()
    assert images == [
        (0, 0.75, None, None),
        (2, 0.25, None, None),
        (3, None, "not an image", "d"),
    ]
    assert found == [(0, 1, "a", 0.75, "x"), (0, 4, "a", 0.5, "x")]


def test_a_batch_is_there_whole_or_not_at_all(tmp_path):
    part = Shard(tmp_path / "part_0000_0000.sqlite", MADE_FROM)
    with pytest.raises(sqlite3.IntegrityError):
        part.add([Finding(0, "a", 0.1), Finding(1, "b", 0.2), Finding(1, "b", 0.2)])
    part.close()
    assert not finished_images(tmp_path, MADE_FROM, 2).any()


def test_foreign_and_damaged_parts_are_refused(tmp_path):
    part = Shard(tmp_path / "part_0000_0000.sqlite", MADE_FROM)
    part.add([Finding(0, "a", 0.1)])
    part.close()
    other = dict(MADE_FROM, threshold=0.7)
    with pytest.raises(ValueError, match=r"another threshold \(0.5 instead of 0.7\):"):
        finished_images(tmp_path, other, 1)
    damaged = tmp_path / "part_0001_0000.sqlite"
    damaged.write_text("no database")
    with pytest.raises(ValueError, match=r"part_0001_0000\.sqlite cannot be read"):
        finished_images(tmp_path, MADE_FROM, 1)
