"""Rules in place of a person: against all pairs in plain loops, by the real command."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("mmengine")

from mmwood.fileio.candidates import Candidate, read_manifest, write_manifest
from mmwood.fileio.journal import LockedError, journal_path
from mmwood.ood.auto import Rules, apply_rules, duplicates, image_hash, near
from mmwood.ood.review.decisions import Review
from mmwood.ood.review.pictures import PictureError

CLASSES = ("disc", "square", "stripe")


def save_picture(bits: int, path: Path, **options) -> None:
    """A picture with this hash: each cell is brighter than the one before, or darker.

    The highest bit is that of the first two cells.
    """
    cells = np.empty((8, 9), dtype=np.uint8)
    for row in range(8):
        shade = 128
        for column in range(9):
            cells[row, column] = shade
            bit = 63 - 8 * row - column
            if column < 8:
                shade += 14 if bits >> bit & 1 else -14
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(cells.repeat(8, axis=0).repeat(8, axis=1))
    picture.convert(options.pop("mode", "RGB")).save(path, **options)


def differing(a: int, b: int) -> int:
    return bin(a ^ b).count("1")


def random_hashes(rng: np.random.Generator, count: int) -> list[int]:
    """Half of them near copies of others, in 0 to 6 bits."""
    hashes = []
    for _ in range(count):
        value = int(rng.integers(0, 1 << 63)) * 2 + int(rng.integers(2))
        if hashes and rng.random() < 0.5:
            value = hashes[rng.integers(len(hashes))]
            for bit in rng.permutation(64)[: rng.integers(7)]:
                value ^= 1 << int(bit)
        hashes.append(value)
    return hashes


def packed(hashes: list[int]) -> np.ndarray:
    return np.array([list(value.to_bytes(8, "big")) for value in hashes], np.uint8)


def test_hash_of_known_pictures(tmp_path):
    rng = np.random.default_rng(0)
    for number, value in enumerate(random_hashes(rng, 20)):
        for mode, suffix in (("RGB", "png"), ("L", "png"), ("RGB", "jpg")):
            path = tmp_path / f"{number}.{suffix}"
            save_picture(value, path, mode=mode)
            found = image_hash(path)
            assert (found.shape, found.dtype) == ((8,), np.uint8)
            assert int.from_bytes(found.tobytes(), "big") == value
    # Turned by the camera: the hash is that of what a person sees.
    exif = Image.Exif()
    exif[0x0112] = 3
    save_picture(value, tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as image:
        image.rotate(180).save(tmp_path / "upright.png")
    assert (
        image_hash(tmp_path / "turned.png") == image_hash(tmp_path / "upright.png")
    ).all()

    # Other sizes and formats of something like a photo.
    noise = rng.standard_normal((400, 600, 3)).astype(np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), 40)
    soft = (soft - soft.min()) / (soft.max() - soft.min())
    photo = Image.fromarray((255 * soft).astype(np.uint8))
    photo.save(tmp_path / "photo.png")
    photo.resize((1700, 1100)).save(tmp_path / "large.jpg", quality=60)
    photo.resize((150, 100)).save(tmp_path / "small.jpg", quality=60)
    first = image_hash(tmp_path / "photo.png")
    for name in ("large.jpg", "small.jpg"):
        assert np.unpackbits(first ^ image_hash(tmp_path / name)).sum() <= 2

    (tmp_path / "text.png").write_text("no image")
    content = io.BytesIO()
    photo.save(content, "JPEG")
    (tmp_path / "half.jpg").write_bytes(content.getvalue()[:2000])
    for name, message in (
        ("none.png", "No such file"),
        ("text.png", "not a whole image"),
        ("half.jpg", "not a whole image"),
    ):
        with pytest.raises(PictureError, match=message):
            image_hash(tmp_path / name)


@pytest.mark.parametrize("max_bits", [0, 2, 5, 30])
def test_near_and_duplicates_equal_all_pairs(max_bits):
    rng = np.random.default_rng(max_bits)
    # More than two blocks.
    hashes = random_hashes(rng, 600)
    others = [*hashes[:40], *random_hashes(rng, 30)]
    staying, expected = [], []
    for value in hashes:
        copy = any(differing(value, other) <= max_bits for other in staying)
        expected.append(copy)
        if not copy:
            staying.append(value)
    assert duplicates(packed(hashes), max_bits).tolist() == expected
    assert 0 < sum(expected) < 600
    hashes = hashes[30:]
    assert near(packed(hashes), packed(others), max_bits).tolist() == [
        any(differing(value, other) <= max_bits for other in others) for value in hashes
    ]
    none = np.zeros((0, 8), dtype=np.uint8)
    assert near(packed(hashes[:3]), none, max_bits).tolist() == [False] * 3
    assert near(none, packed(hashes), max_bits).tolist() == []
    assert duplicates(none, max_bits).tolist() == []


def expected_states(
    rows: list[Candidate],
    hash_of: dict[str, int | None],
    known: list[int],
    rules: Rules,
) -> list[str]:
    """States by the rules, in plain loops over all pairs."""

    def same(a: int, b: int) -> bool:
        return differing(a, b) <= rules.max_bits

    having = {
        state: {row.image for row in rows if row.state == state}
        for state in ("unseen", "kept", "rejected")
    }
    largest = {
        image: max(row.probability for row in rows if row.image == image)
        for image in hash_of
    }
    kept = [hash_of[i] for i in having["kept"] if hash_of[i] is not None]
    copies, staying = set(), []
    for image in sorted(hash_of, key=lambda image: -largest[image]):
        value = hash_of[image]
        if value is None or image in having["kept"] | having["rejected"]:
            continue
        if any(same(value, other) for other in kept + staying):
            copies.add(image)
        else:
            staying.append(value)
    states = []
    for row in rows:
        value = hash_of[row.image]
        if row.state != "unseen" or value is None:
            states.append(row.state)
            continue
        out = (
            (rules.duplicates and row.image in copies)
            or (rules.in_distribution and any(same(value, other) for other in known))
            or (
                rules.max_probability is not None
                and row.probability > rules.max_probability
            )
        )
        if out and row.image not in having["kept"]:
            states.append("rejected")
        else:
            states.append("kept" if rules.keep_rest else "unseen")
    return states


@pytest.fixture
def mined(tmp_path):
    """A manifest of 90 images, the hashes by image, and those of 12 training images."""
    rng = np.random.default_rng(5)
    hashes = random_hashes(rng, 90)
    hash_of, rows = {}, []
    for number, value in enumerate(hashes):
        image = str(tmp_path / f"images/{number:02d}.png")
        save_picture(value, Path(image))
        hash_of[image] = value
        for class_name in CLASSES[: rng.integers(1, 4)]:
            # 0.95 itself, and equal ones, among them.
            probability = round(float(rng.integers(50, 100)) / 100, 2)
            state = rng.choice(["unseen", "kept", "rejected"], p=[0.8, 0.1, 0.1])
            rows.append(Candidate(image, class_name, probability, 1, str(state), "sha"))
    images = list(hash_of)
    os.remove(images[3])
    os.truncate(images[40], 60)
    hash_of[images[3]] = hash_of[images[40]] = None
    rows[0].state = "kept"
    rng.shuffle(rows)
    write_manifest(tmp_path / "ood.csv", rows)
    known = [*hashes[:8], *random_hashes(rng, 4)]
    for number, value in enumerate(known):
        save_picture(value, tmp_path / f"train/deep/{number}.png")
    (tmp_path / "train/bad.jpg").write_text("no image")
    return rows, hash_of, known


def states(path: Path) -> list[str]:
    return [row.state for _, row in read_manifest(path)]


@pytest.mark.parametrize(
    "options",
    [
        dict(duplicates=True),
        dict(duplicates=True, max_bits=5, keep_rest=True),
        dict(in_distribution="train", max_bits=0),
        dict(max_probability=0.95),
        dict(keep_rest=True),
        dict(
            duplicates=True,
            in_distribution="train",
            max_bits=4,
            max_probability=0.9,
            keep_rest=True,
        ),
    ],
)
def test_states_equal_plain_loops(mined, tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    rows, hash_of, known = mined
    rules = Rules(**options)
    before = [row.state for row in rows]
    expected = expected_states(rows, hash_of, known, rules)
    review = Review("ood.csv")
    entry, faults = apply_rules(review, rules)
    review.close()
    assert states("ood.csv") == expected
    changed = [new for old, new in zip(before, expected) if new != old]
    assert len(changed) > 3
    assert entry["rejected"] == changed.count("rejected")
    assert entry["kept"] == changed.count("kept")
    assert entry["left_unseen"] == expected.count("unseen")
    bad = {image for image, value in hash_of.items() if value is None}
    assert {image for image in faults if "train" not in image} == bad
    # Only the log is new beside it.
    assert json.loads(Path("ood.json").read_text()) == dict(auto=[entry])
    assert entry["finished"]
    assert not journal_path("ood.csv").exists()
    # Once more changes nothing, and says so.
    review = Review("ood.csv")
    again, _ = apply_rules(review, rules)
    review.close()
    assert states("ood.csv") == expected
    assert (again["rejected"], again["kept"]) == (0, 0)


@pytest.mark.slow
def test_command_logs_and_says_that_nobody_looked(mined, tmp_path, run_tool):
    rows, hash_of, known = mined
    summary = dict(checkpoint_sha256="1", rows=len(rows), auto=[dict(rules=[])])
    (tmp_path / "ood.json").write_text(json.dumps(summary))
    # What a review that was killed decided is a person's, too.
    number = next(n for n, row in enumerate(rows) if row.state == "unseen")
    code = (
        "import os, sys; from mmwood.ood.review.decisions import Review;"
        f"Review(sys.argv[1]).decide([{number}], 'rejected'); os._exit(9)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "ood.csv")]
    assert subprocess.run(command, check=False).returncode == 9
    rows[number].state = "rejected"

    rules = Rules(True, "train", 3, 0.9, keep_rest=True)
    text = run_tool(
        *("review_ood.py", "ood.csv", "--auto", "--duplicates", "--max-bits", 3),
        *("--in-distribution", "train", "--max-probability", 0.9, "--keep-rest"),
    )
    assert states(tmp_path / "ood.csv") == expected_states(rows, hash_of, known, rules)
    assert "1 decisions of a review that was cut off are back" in text
    assert "no person has looked at these" in text
    assert "http" not in text
    assert "images that cannot be read: 3\n" in text
    assert f"  {tmp_path}/images/03.png: No such file or directory\n" in text
    assert "  train/bad.jpg: not a whole image\n" in text
    found = json.loads((tmp_path / "ood.json").read_text())
    first, entry = found.pop("auto")
    assert dict(found, auto=[first]) == summary
    assert entry["note"] == "no person has looked at these"
    assert [rule["rule"] for rule in entry["rules"]] == [
        "duplicates",
        "in_distribution",
        "max_probability",
        "keep_rest",
    ]
    assert entry["rules"][1]["folder"] == "train"
    assert entry["rules"][1]["compared_with"] == 12
    assert entry["rules"][1]["unreadable"] == 1
    assert entry["rules"][2]["limit"] == 0.9
    assert entry["unreadable"] == 2
    for rule in entry["rules"]:
        assert f" {rule['rows']} | " in text


@pytest.mark.slow
def test_what_is_wrong_changes_nothing(mined, tmp_path, run_tool):
    before = (tmp_path / "ood.csv").read_bytes()
    tool = ("review_ood.py", "ood.csv")
    (tmp_path / "empty").mkdir()
    auto = (*tool, "--auto")
    for command, message in (
        ((*tool, "--keep-rest"), "--keep-rest needs --auto"),
        (auto, "there is no rule"),
        ((*auto, "--duplicates", "--max-bits", 64), "max_bits must be in 0..63"),
        ((*auto, "--in-distribution", "none"), "there is no folder none"),
        (
            (*auto, "--in-distribution", "empty"),
            "in_distribution: empty holds no image",
        ),
    ):
        assert message in run_tool(*command, fails=True)
    for limit in (1.5, float("nan")):
        with pytest.raises(ValueError, match=r"max_probability must be in \[0, 1\]"):
            Rules(max_probability=limit)
    (tmp_path / "ood.json").write_text("[]")
    text = run_tool(*auto, "--keep-rest", fails=True)
    assert "ood.json: expected the JSON object" in text
    assert "Traceback" not in text
    (tmp_path / "ood.json").unlink()
    # Not beside an open review, nor that beside it.
    review = Review(tmp_path / "ood.csv")
    text = run_tool(*auto, "--keep-rest", fails=True)
    assert f"another process {os.getpid()} reviews" in text
    with pytest.raises(LockedError):
        Review(tmp_path / "ood.csv")
    review.close()
    assert (tmp_path / "ood.csv").read_bytes() == before
    assert not (tmp_path / "ood.json").exists()
    assert not journal_path(tmp_path / "ood.csv").exists()
