"""From scores to the manifest, against plain loops."""

import hashlib
import json
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmwood.fileio.candidates import read_manifest
from mmwood.fileio.image_features import read_features
from mmwood.fileio.image_scores import read_scores
from mmwood.ood.auto import Rules, apply_rules
from mmwood.ood.results import summary_tables
from mmwood.ood.review.decisions import Review
from mmwood.ood.scores import write_scores


def make_images(folder: Path, count: int) -> list[str]:
    folder.mkdir()
    rng = np.random.default_rng(0)
    names = [f"{number * 7 % 10}_{number}.png" for number in range(count)]
    for name in names:
        pixels = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return names


def write_table(path: Path, rows: list[tuple]) -> Path:
    lines = ["image,class,score", *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(("top", "most"), [(None, None), (2, None), (3, 1)])
def test_rows_are_those_of_plain_loops(top, most, tmp_path):
    names = make_images(tmp_path / "images", 8)
    (tmp_path / "images/half.png").write_bytes(b"no image")
    chance = random.Random(0)
    # Few values, so that there are ties, and one that is the threshold.
    rows = [
        (name, chance.choice("bac"), chance.choice((0.1, 0.4, 0.6, 0.7, 0.95)))
        for name in [*names, "half.png", "gone.png"]
        for _ in range(6)
    ]
    rows += [("half.png", "a", 0.95), ("gone.png", "a", 0.1)]
    chance.shuffle(rows)
    table = write_table(tmp_path / "images/s.csv", rows)
    out, unreadable = tmp_path / "ood.csv", tmp_path / "unreadable.txt"
    summary = write_scores(
        read_scores(table), table, out, 0.6, top, most, unreadable=unreadable
    )

    best: dict[tuple[str, str], float] = {}
    for name, label, score in rows:
        best[name, label] = max(score, best.get((name, label), 0))
    expected = []
    for name in names:
        likely = [(-best[name, c], c) for c in "abc" if best.get((name, c), 0) >= 0.6]
        expected += [(c, negative, name) for negative, c in sorted(likely)[:most]]
    expected = [
        (str(tmp_path / "images" / name), label, -negative, rank)
        for wanted in "abc"
        for rank, (label, negative, name) in enumerate(
            sorted(row for row in expected if row[0] == wanted)[:top], start=1
        )
    ]
    found = [row for _, row in read_manifest(out)]
    assert expected
    assert [(r.image, r.class_name, r.probability, r.rank) for r in found] == expected
    for row in found:
        assert row.state == "unseen"
        assert row.sha256 == hashlib.sha256(Path(row.image).read_bytes()).hexdigest()
    assert json.loads((tmp_path / "ood.json").read_text()) == summary
    assert summary["joined"] == len(rows) - len(best)
    assert (summary["candidates"], summary["unreadable"]) == (10, 2)
    assert summary["classes"] == ["a", "b", "c"]
    assert sum(summary["histogram"]) == 8
    first = next(name for name, *_ in rows if name in ("half.png", "gone.png"))
    lines = unreadable.read_text().splitlines()
    assert lines[0].startswith(str(tmp_path / "images" / first))
    assert {line.split("\t")[1] for line in lines} == {
        "not an image that Pillow reads",
        "No such file or directory",
    }
    assert "unreadable" in summary_tables(summary)


def test_a_review_of_scores_is_kept_by_an_update(tmp_path):
    names = make_images(tmp_path / "images", 5)
    rows = [(name, "cat", 0.5 + number / 10) for number, name in enumerate(names)]
    table = write_table(tmp_path / "s.csv", rows)
    out, options = tmp_path / "ood.csv", dict(unreadable=tmp_path / "unreadable.txt")

    def mined(**more):
        scores = read_scores(table, root=tmp_path / "images")
        return write_scores(scores, table, out, **options, **more)

    mined()
    review = Review(out)
    with pytest.raises(ValueError, match="must not change now"):
        mined(update=True)
    review.decide([0], "rejected")
    entry, faults = apply_rules(review, Rules(max_probability=0.75, keep_rest=True))
    review.close()
    assert not faults
    assert (entry["kept"], entry["rejected"]) == (3, 1)
    with pytest.raises(ValueError, match="holds 5 reviewed rows: add --update"):
        mined()
    # The model was trained on; it also sees dogs now.
    write_table(table, [(names[0], "dog", 0.9), *((n, "cat", 0.7) for n in names)])
    summary = mined(update=True)
    states = {
        (Path(r.image).name, r.class_name): r.state for _, r in read_manifest(out)
    }
    assert states == {
        (names[0], "dog"): "unseen",
        **{(name, "cat"): "kept" for name in names[:3]},
        **{(name, "cat"): "rejected" for name in names[3:]},
    }
    assert summary["auto"] == [entry]
    # It is also known which of them a person looked at.
    review = Review(out)
    looked = [
        Path(review.images[row]).name
        for row, (state, seen) in enumerate(zip(review.states, review.looked))
        if state and seen
    ]
    review.close()
    assert looked == [names[4]]


def test_features_of_the_users_model_go_beside_the_manifest(tmp_path):
    names = make_images(tmp_path / "images", 5)
    rows = [(name, "cat", score) for name, score in zip(names, (0.9, 0.8, 0.1, 0.7, 1))]
    table = write_table(tmp_path / "s.csv", rows)
    out, own = tmp_path / "ood.csv", tmp_path / "own.npz"
    options = dict(unreadable=tmp_path / "unreadable.txt", root=tmp_path / "images")
    # The last image has none; float16 does not reach as far as the first one.
    z = np.random.default_rng(0).normal(size=(4, 3))
    z[0, 0] = 1e6
    np.savez(own, image=np.array(names[:4]), features=z)

    def mined(**more):
        scores = read_scores(table, root=tmp_path / "images")
        return write_scores(scores, table, out, **options, **more)

    mined(features=own)
    expected = {
        row.sha256: z[names.index(Path(row.image).name)]
        for _, row in read_manifest(out)
        if Path(row.image).name != names[4]
    }
    assert len(expected) == 3
    found = read_features(tmp_path / "ood.npz")
    assert found.sha256.tolist() == sorted(key.encode() for key in expected)
    for key, row in zip(found.sha256, np.concatenate([*found.blocks()])):
        rounded = expected[key.decode()].clip(-65504, 65504)
        np.testing.assert_allclose(row, rounded, rtol=1e-3)
    # Only of what the manifest holds.
    mined(features=own, top=2)
    (left,) = read_features(tmp_path / "ood.npz").sha256
    (row,) = (row for _, row in read_manifest(out) if Path(row.image).name == names[0])
    assert left == row.sha256.encode()
    # Those of another model would be wrong.
    mined()
    assert not (tmp_path / "ood.npz").exists()
    np.savez(own, image=np.array(["other.png"]), features=z[:1])
    with pytest.raises(ValueError, match=r"names none of the images .*other\.png"):
        mined(features=own)
    # What is not ours is not overwritten.
    own.rename(tmp_path / "ood.npz")
    with pytest.raises(ValueError, match=r"ood\.npz is not what mining leaves"):
        mined()
    out.unlink()
    (tmp_path / "ood.json").unlink()
    with pytest.raises(FileExistsError, match=r"ood\.npz is there, without"):
        mined()


def test_what_is_no_source_of_candidates(tmp_path):
    (name,) = make_images(tmp_path / "images", 1)
    table = write_table(tmp_path / "s.csv", [])
    out = tmp_path / "ood.csv"
    with pytest.raises(ValueError, match=r"s\.csv holds no score"):
        write_scores(read_scores(table), table, out)
    write_table(table, [(name, "cat", 0.5)])
    with pytest.raises(FileNotFoundError, match=r"none of its 1 images .* --root"):
        write_scores(read_scores(table), table, out)
    with pytest.raises(ValueError, match="--threshold must be at least 0 and below 1"):
        write_scores(read_scores(table), table, out, threshold=1)
    assert not out.exists()
