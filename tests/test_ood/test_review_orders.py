"""Orders of looking, their expected looks, and groups, against plain loops."""

import random
from pathlib import Path

import numpy as np
import pytest

from mmwood.fileio.candidates import STATES, Candidate, write_manifest
from mmwood.fileio.image_features import features_path, write_features
from mmwood.ood.review.alike import SHOWN, Alike
from mmwood.ood.review.counts import ReviewRows
from mmwood.ood.review.decisions import Review
from mmwood.ood.review.orders import (
    Pace,
    duration,
    expected_looks,
    keep_rates,
    round_robin,
)

CLASSES = ("boat", "train", "cow")


def reviewed(folder: Path, seed: int, count: int = 60) -> Review:
    """A review in which some rows are decided, some of these without a look."""
    rng = random.Random(seed)
    pairs = [(image, name) for image in range(count // 2) for name in CLASSES]
    rows = [
        Candidate(f"{image}.jpg", name, rng.random(), 1, "unseen", f"{image:064d}")
        for image, name in rng.sample(pairs, count)
    ]
    write_manifest(folder / "ood.csv", rows)
    review = Review(folder / "ood.csv")
    for _ in range(8):
        some = rng.sample(range(count), 4)
        review.decide(some, rng.choice(STATES[1:]), looked_at=some[:2])
    return review


def test_class_by_turns():
    rng = random.Random(0)
    for _ in range(30):
        classes = [rng.choice([0, 2, 5]) for _ in range(rng.randrange(1, 20))]
        left = {c: [n for n, x in enumerate(classes) if x == c] for c in (0, 2, 5)}
        expected = []
        while any(left.values()):
            expected += [rows.pop(0) for rows in left.values() if rows]
        assert round_robin(np.array(classes)).tolist() == expected


@pytest.mark.parametrize("seed", range(5))
def test_expected_looks_are_those_of_a_plain_loop(tmp_path, seed):
    review = reviewed(tmp_path, seed)
    table = ReviewRows(review)
    looks = [n for n in range(60) if review.states[n] and review.looked[n]]
    kept = [n for n in looks if STATES[review.states[n]] == "kept"]
    keep = keep_rates(table)
    for row in range(60):
        same = [
            n
            for n in looks
            if review.class_of[n] == review.class_of[row]
            and int(review.probability[n] * 10) == int(review.probability[row] * 10)
        ]
        good = sum(n in kept for n in same) + 5 * len(kept) / len(looks)
        assert keep[row] == pytest.approx(good / (len(same) + 5))

    order = random.Random(seed).sample(range(60), 60)
    decided = {review.images[n] for n in range(60) if review.states[n]}
    for missing in (-1, 0, 0.5, 3, 8, 50):
        usable, count, seen = 0.0, 0, set(decided)
        for row in order:
            if usable >= missing:
                break
            if STATES[review.states[row]] == "unseen":
                count += 1
                if review.images[row] not in seen:
                    usable += keep[row]
                seen.add(review.images[row])
        expected = count if usable >= missing else None
        assert expected_looks(table, np.array(order), keep, missing) == expected
    review.close()


def test_without_evidence_nothing_is_expected(tmp_path):
    review = reviewed(tmp_path, 0)
    table = ReviewRows(review)
    review.decide(range(60), "rejected")
    assert keep_rates(table) is None
    # What nobody looked at is no evidence.
    review.decide(range(60), "kept", looked_at=())
    assert keep_rates(table) is None
    review.close()


def test_the_pace_is_a_median_of_looks():
    pace = Pace()
    assert pace.seconds is None
    pace.add(3, 1)
    pace.add(12, 12)
    pace.add(1000, 1)
    pace.add(2, 0)
    assert pace.seconds == 1
    for _ in range(20):
        pace.add(4, 1)
    assert pace.seconds == 4
    assert [duration(s) for s in (40, 1800, 15000)] == ["40 s", "30 min", "4.2 h"]


def test_groups_of_a_review(tmp_path):
    rng = np.random.default_rng(0)
    review = reviewed(tmp_path, 0, count=84)
    table = ReviewRows(review)
    everything = table.choose()
    with pytest.raises(FileNotFoundError, match=r"no file of features .*ood\.npz"):
        Alike(table)
    with features_path(review.path).open("wb") as file:
        np.savez(file, features=np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"ood\.npz is not what mining leaves"):
        Alike(table)
    # All but image 3.
    images = [image for image in range(42) if image != 3]
    kind = {image: int(rng.integers(2)) for image in images}
    rows = [
        (
            f"{image:064d}",
            (rng.normal(size=5) + 50 * np.eye(5)[kind[image]]).astype("<f2").tobytes(),
        )
        for image in images
    ]
    write_features(features_path(review.path), len(rows), 5, rows)
    alike = Alike(table)
    lacking = [row for row in range(84) if review.images[row] == "3.jpg"]
    assert alike.missing == len(lacking) > 0
    groups = alike.groups(everything)
    found = [row for group in groups for row in group.rows]
    assert sorted([*found, *lacking]) == list(range(84))
    for group in groups:
        assert {review.class_of[row] for row in group.rows} == {group.class_index}
        unseen = [row for row in group.rows if not review.states[row]]
        shown = unseen or group.rows
        assert len(group.shown) == len(set(group.shown)) == min(SHOWN, len(shown))
        assert set(group.shown) <= set(shown)
    order = [group.class_index for group in groups]
    assert order == sorted(order)
    # The same groups, whatever else is chosen.
    some = everything[::2]
    again = alike.groups(some)
    assert {frozenset(group.rows) for group in again} == {
        frozenset(group.rows) & set(some.tolist()) for group in groups
    } - {frozenset()}

    varied = alike.varied(everything)
    assert sorted(varied.tolist()) == list(range(84))
    with_features = [row for row in everything if row not in lacking]
    assert varied[0] == with_features[0]
    # The second is of the other kind.
    first, second = (
        kind[int(Path(review.images[row]).stem)] for row in varied[:2].tolist()
    )
    assert first != second
    review.close()
