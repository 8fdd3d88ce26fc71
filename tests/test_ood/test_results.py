import csv
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmwood.fileio.candidates import Candidate, read_manifest, write_manifest
from mmwood.fileio.mining_results import Finding, Shard
from mmwood.ood.results import check_manifest, summary_tables, write_results

CLASSES = ["b", "a", "ä,c"]
#: Few values, so that there are ties.
PROBABILITY = st.sampled_from([0.0, 0.25, 0.5, np.float32(0.7).item(), 0.9, 1.0])
IMAGE = st.one_of(st.none(), st.tuples(PROBABILITY, PROBABILITY, PROBABILITY))


def make_parts(folder: Path, images: list, parts: int = 1) -> None:
    """Image i is called i·7 mod 10, has the scores given; None: it is unreadable."""
    made_from = dict(classes=CLASSES, threshold=0.5)
    for part in range(parts):
        findings = []
        for number, scores in list(enumerate(images))[part::parts]:
            finding = Finding(number, name(number), fault="gone")
            if scores is not None:
                finding.fault, finding.top = None, max(scores)
                finding.classes = [(c, p) for c, p in enumerate(scores) if p >= 0.5]
                finding.sha256 = f"sha{number}" if finding.classes else ""
            findings.append(finding)
        writer = Shard(folder / f"part_0000_{part:04d}.sqlite", made_from)
        writer.add(findings)
        writer.close()


def name(number: int) -> str:
    return f"{number * 7 % 10}_{number}.jpg"


def expected_rows(images: list, top: int | None, most: int | None) -> list[tuple]:
    """Image, class, probability, rank; by plain sorting."""
    by_class = defaultdict(list)
    for number, scores in enumerate(images):
        likely = [(-p, c) for c, p in enumerate(scores or ()) if p >= 0.5]
        for negative, index in sorted(likely)[:most]:
            by_class[index].append((negative, name(number)))
    return [
        (image, CLASSES[index], -negative, rank)
        for index in sorted(by_class)
        for rank, (negative, image) in enumerate(sorted(by_class[index])[:top], start=1)
    ]


@pytest.mark.slow
@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    images=st.lists(IMAGE, min_size=1, max_size=12),
    parts=st.integers(1, 14),
    top=st.one_of(st.none(), st.integers(1, 4)),
    most=st.one_of(st.none(), st.integers(1, 3)),
)
def test_rows_and_counts_are_those_of_plain_sorting(
    tmp_path_factory, images, parts, top, most
):
    folder = tmp_path_factory.mktemp("mined")
    make_parts(folder, images, parts)
    summary = write_results(
        folder,
        folder / "ood.csv",
        len(images),
        top=top,
        max_per_image=most,
        unreadable=folder / "unreadable.txt",
    )
    rows = [row for _, row in read_manifest(folder / "ood.csv")]
    expected = expected_rows(images, top, most)
    assert [(r.image, r.class_name, r.rank) for r in rows] == [
        (image, class_name, rank) for image, class_name, _, rank in expected
    ]
    for row, (_, _, probability, _) in zip(rows, expected):
        assert row.probability == pytest.approx(probability, abs=5e-7)
        assert row.state == "unseen"
        assert row.sha256 == f"sha{row.image[2:-4]}"

    assert json.loads((folder / "ood.json").read_text()) == summary
    assert summary["candidates"] == len(images)
    assert summary["unreadable"] == images.count(None)
    assert summary["rows"] == len(rows)
    assert summary["images"] == len({row.image for row in rows})
    tops = [max(scores) for scores in images if scores is not None]
    assert summary["highest"] == max(tops, default=None)
    assert summary["histogram"] == [
        sum(
            number / 10 <= p < (number + 1) / 10 or (number == 9 and p == 1)
            for p in tops
        )
        for number in range(10)
    ]
    for index, item in enumerate(summary["per_class"]):
        above = [s[index] for s in images if s is not None and s[index] >= 0.5]
        assert item["name"] == CLASSES[index]
        assert item["above"] == len(above)
        assert item["highest"] == max(above, default=None)
        assert item["rows"] == sum(row.class_name == CLASSES[index] for row in rows)
    faulty = [name(i) for i, scores in enumerate(images) if scores is None]
    lines = (folder / "unreadable.txt").read_text().splitlines()
    assert lines == [f"{image}\tgone" for image in faulty]
    assert summary["first_unreadable"] == [
        dict(image=image, reason="gone") for image in faulty[:10]
    ]
    assert "unreadable" in summary_tables(summary)


def test_reviewed_states_are_carried_over_and_never_lost(tmp_path):
    out = tmp_path / "ood.csv"
    make_parts(tmp_path / "work", [(0.9, 0.6, 0), (0.7, 0, 0), (0.8, 0, 0)])
    options = dict(unreadable=tmp_path / "unreadable.txt")
    write_manifest(
        out,
        [
            # The file was renamed since.
            Candidate("old.jpg", "b", 0.55, 1, "kept", "sha0"),
            Candidate("twin.jpg", "b", 0.54, 2, "kept", "sha1"),
            Candidate("other.jpg", "b", 0.53, 3, "rejected", "sha1"),
            Candidate(name(2), "b", 0.52, 4, "kept", "sha2"),
            Candidate("twin of 2.jpg", "b", 0.51, 5, "rejected", "sha2"),
            # Not found any more: its place is after the others of the class.
            Candidate("gone.jpg", "b", 0.99, 6, "rejected", "gone"),
            Candidate("gone2.jpg", "b", 0.98, 7, "kept", "gone2"),
            Candidate("unseen.jpg", "b", 0.97, 8, "unseen", "gone3"),
            # The same file for another class says nothing about this one.
            Candidate(name(0), "ä,c", 0.6, 1, "kept", "sha0"),
            Candidate("x.jpg", "no class now", 0.9, 1, "kept", "y"),
        ],
    )
    before = out.read_bytes()
    with pytest.raises(ValueError, match="holds 9 reviewed rows: add --update"):
        write_results(tmp_path / "work", out, 3, **options)
    assert out.read_bytes() == before
    summary = write_results(tmp_path / "work", out, 3, update=True, **options)
    with out.open(encoding="utf-8") as file:
        rows = [tuple(row.values()) for row in csv.DictReader(file)]
    assert rows == [
        (name(0), "b", "0.900000", "1", "kept", "sha0"),
        (name(2), "b", "0.800000", "2", "kept", "sha2"),
        (name(1), "b", "0.700000", "3", "rejected", "sha1"),
        ("gone.jpg", "b", "0.990000", "4", "rejected", "gone"),
        ("gone2.jpg", "b", "0.980000", "5", "kept", "gone2"),
        (name(0), "a", "0.600000", "1", "unseen", "sha0"),
        (name(0), "ä,c", "0.600000", "1", "kept", "sha0"),
        ("x.jpg", "no class now", "0.900000", "1", "kept", "y"),
    ]
    assert summary["states"] == dict(unseen=1, kept=5, rejected=2)
    assert summary["not_found_again"] == 4
    assert summary["images"] == 3
    # Once more changes nothing.
    before = out.read_bytes()
    write_results(tmp_path / "work", out, 3, update=True, **options)
    assert out.read_bytes() == before


def test_unfinished_parts_and_wrong_manifests_are_refused(tmp_path):
    make_parts(tmp_path, [(0.9, 0.6, 0)])
    with pytest.raises(ValueError, match="holds 1 of 2 candidates"):
        write_results(tmp_path, tmp_path / "ood.csv", 2)
    with pytest.raises(ValueError, match=r"--out must be a \.csv"):
        check_manifest(tmp_path / "ood.json")
    (tmp_path / "notes.csv").write_text("a,b\n")
    with pytest.raises(ValueError, match=r"notes\.csv:1: a manifest's header"):
        check_manifest(tmp_path / "notes.csv")
    (tmp_path / "coco.json").write_text("{}")
    with pytest.raises(FileExistsError, match=r"coco\.json is there, without"):
        check_manifest(tmp_path / "coco.csv")
