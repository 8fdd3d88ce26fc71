import csv
import json
import random
import re
from pathlib import Path

import pytest

from mmwood.converters.openimages.candidates import summary_tables, write_candidates
from mmwood.converters.openimages.foreground import (
    TABLES,
    Foreground,
    read_descriptions,
    read_foreground,
    read_hierarchy,
)

#: Labels, names and the hierarchy of Open Images, a few of them.
DESCRIPTIONS = """\
/m/0bt9lr,Dog
/m/01yrx,Cat
/m/01g317,Person
/m/04yx4,Man
/m/0dzct,Human face
/m/04rky,Mammal
/m/01_c0l,"Ducks, geese and swans"
/m/0156sn,Ball
/m/018xm,Ball
/m/0brsdp,Puppy
/m/07j7r,Tree
"""
HIERARCHY = {
    "LabelName": "/m/0bl9f",
    "Subcategory": [
        {
            "LabelName": "/m/01g317",
            "Subcategory": [{"LabelName": "/m/04yx4"}],
            "Part": [{"LabelName": "/m/0dzct"}],
        },
        {
            "LabelName": "/m/04rky",
            "Subcategory": [{"LabelName": "/m/0bt9lr"}, {"LabelName": "/m/01yrx"}],
        },
        # As in the real file: a second place, without what is below the first.
        {"LabelName": "/m/04rky"},
        {"LabelName": "/m/018xm"},
    ],
}
MAPPING = """\
class,name,label,descendants
animal,Mammal,,
animal,Puppy,/m/0brsdp,no
person,Person,/m/01g317,yes
"""
HEADER = "ImageID,Source,LabelName,Confidence\n"
URLS = (
    "ImageID,Subset,OriginalURL,OriginalLandingURL,License,AuthorProfileURL,Author,"
    "Title,OriginalSize,OriginalMD5,Thumbnail300KURL,Rotation\n"
)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with the descriptions, the hierarchy and a mapping."""
    (tmp_path / "classes.csv").write_text(DESCRIPTIONS, encoding="utf-8")
    (tmp_path / "tree.json").write_text(json.dumps(HIERARCHY))
    (tmp_path / "mapping.csv").write_text(MAPPING)
    return tmp_path


def foreground_of(folder: Path, **kwargs) -> Foreground:
    return read_foreground(
        folder / "mapping.csv", folder / "classes.csv", folder / "tree.json", **kwargs
    )


def test_descriptions_with_and_without_header(files):
    plain = read_descriptions(files / "classes.csv")
    assert plain["/m/01_c0l"] == "Ducks, geese and swans"
    assert len(plain) == 11
    path = files / "header.csv"
    path.write_text("LabelName,DisplayName\n" + DESCRIPTIONS, encoding="utf-8-sig")
    assert read_descriptions(path) == plain


def test_foreground_has_descendants_and_parts(files):
    foreground = foreground_of(files)
    assert foreground.classes == ["animal", "person"]
    assert foreground.labels == {
        "/m/04rky": ["animal"],
        "/m/0bt9lr": ["animal"],
        "/m/01yrx": ["animal"],
        "/m/0brsdp": ["animal"],
        "/m/01g317": ["person"],
        "/m/04yx4": ["person"],
        "/m/0dzct": ["person"],
    }
    without = foreground_of(files, parts=False)
    assert set(foreground.labels) - set(without.labels) == {"/m/0dzct"}
    # One label of two classes; a name that another version has; no further columns.
    text = "class,name\nanimal,Mammal\npet,Dog\npet,Cat\n"
    (files / "mapping.csv").write_text(text)
    assert foreground_of(files).labels["/m/0bt9lr"] == ["animal", "pet"]
    (files / "mapping.csv").write_text("class,name,label\nd,Hound,/m/0bt9lr\n")
    assert foreground_of(files).renamed == [
        "/m/0bt9lr is 'Hound' in the mapping and 'Dog' in the descriptions"
    ]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("classes.csv", "/m/1,A\n/m/2\n", "classes.csv:2: expected a label and its"),
        ("classes.csv", "/m/1,A,B\n", "classes.csv:1: expected a label and its name"),
        ("classes.csv", "id,name\n", "classes.csv:1: expected a label and its name"),
        ("classes.csv", "/m/1,A\n\n/m/1,B\n", "classes.csv:3: label /m/1 is described"),
        ("classes.csv", "LabelName,DisplayName\n", "classes.csv: describes no label"),
        ("classes.csv", b"/m/1,\xff\n", "classes.csv: not CSV in UTF-8 after line 0"),
        ("tree.json", '{"LabelName":\n oh', "tree.json:2: not JSON"),
        ("tree.json", '{"Name": 1}', "expected an object with a LabelName, got {"),
        ("tree.json", '{"LabelName": "a", "Part": 1}', "Part of a is not a list"),
        ("tree.json", '{"LabelName": "a", "Part": ["b"]}', 'LabelName, got "b"'),
        ("tree.json", '{"LabelName": "a"}', "mapping.csv:2: the hierarchy .*tree.json"),
        ("mapping.csv", "name,class\n", "mapping.csv:1: expected the columns class,na"),
        ("mapping.csv", "class,name,mid\n", "mapping.csv:1: expected the columns"),
        ("mapping.csv", "class,name\n", "mapping.csv: maps no class"),
        ("mapping.csv", "class,name\na\n", "mapping.csv:2: expected 2 fields"),
        ("mapping.csv", "class,name\n,Dog\n", "mapping.csv:2: names no class"),
        ("mapping.csv", "class,name\na,dog\n", "csv:2: .*classes.csv has no class na"),
        ("mapping.csv", "class,name\na,Ball\n", "csv:2: .*several classes named 'Bal"),
        ("mapping.csv", "class,name\na,Dog\na,Dog\n", "csv:3: 'a' has /m/0bt9lr twice"),
        ("mapping.csv", "class,name\na,Tree\n", "csv:2: the hierarchy .*/m/07j7r .Tre"),
        (
            "mapping.csv",
            "class,name,label\na,Dog,/m/9\n",
            "mapping.csv:2: .*classes.csv does not have the label /m/9 .Dog.",
        ),
        (
            "mapping.csv",
            "class,name,descendants\na,Dog,maybe\n",
            "mapping.csv:2: descendants must be yes or no, got 'maybe'",
        ),
    ],
)
def test_wrong_descriptions_hierarchies_and_mappings(files, file, text, message):
    content = text if isinstance(text, bytes) else text.encode()
    (files / file).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        foreground_of(files)


def test_missing_files_are_named(files):
    for name, field in (
        ("classes.csv", "descriptions"),
        ("tree.json", "hierarchy"),
        ("mapping.csv", "mapping"),
    ):
        (files / name).rename(files / "away")
        with pytest.raises(FileNotFoundError, match=f"{field}: there is no file"):
            foreground_of(files)
        (files / "away").rename(files / name)
    with pytest.raises(FileNotFoundError, match="labels: there is no file"):
        write_candidates(foreground_of(files), ["none.csv"], files / "list.txt")


def test_each_kind_of_label(files):
    human = HEADER + (
        "a1,verification,/m/0bt9lr,1\n"  # a dog
        "a2,verification,/m/0bt9lr,0\n"  # no dog
        "a3,verification,/m/07j7r,1\n"  # a tree
        "a4,verification,/m/0bt9lr,0\n"  # a person denies what a machine saw
        "a5,verification,/m/01yrx,0\n"  # denies another label than the machine's
        "a6,verification,/m/0dzct,1\n"  # a part
        "a7,crowdsource-verification,/m/0bt9lr,0\n"
        "a7,verification,/m/0bt9lr,1.0\n"  # people disagree
        "\n"
    )
    machine = HEADER + (
        "a4,machine,/m/0bt9lr,0.9\n"
        "a5,machine,/m/0bt9lr,0.9\n"
        "a8,machine,/m/0bt9lr,0.5\n"
        "a9,machine,/m/0bt9lr,0.4\n"
        "a3,machine,/m/01g317,0.4\n"
        "b1,machine,/m/04rky,0.8\n"
        "b1,machine,/m/04yx4,0.8\n"  # two classes
    )
    (files / "human.csv").write_text(human)
    (files / "machine.csv").write_text(machine)
    paths = [files / "human.csv", files / "machine.csv"]
    summary = write_candidates(foreground_of(files), paths, files / "list.txt")
    text = (files / "list.txt").read_text()
    assert text == "a2.jpg\na3.jpg\na4.jpg\na9.jpg\n"
    assert (summary["images"], summary["removed"], summary["denied"]) == (10, 6, 1)
    assert summary["per_class"] == [
        dict(name="animal", images=5, alone=4),
        dict(name="person", images=2, alone=1),
    ]
    assert summary["per_label"][0] == dict(label="/m/0bt9lr", name="Dog", images=4)
    assert list(summary["lines"].values()) == [9, 7]
    assert json.loads((files / "list.json").read_text()) == summary
    assert re.search(r"animal +\| +5 \| +4", summary_tables(summary))
    # Another threshold; no file is left beside the results.
    write_candidates(
        foreground_of(files), paths, files / "other/list.txt", confidence=0.4
    )
    assert (files / "other/list.txt").read_text() == "a2.jpg\na4.jpg\n"
    assert len(list((files / "other").iterdir())) == 2


def random_tables(folder: Path, seed: int) -> tuple[list[Path], list[tuple]]:
    """Label files in any order, images and rows repeated, and their rows."""
    rng = random.Random(seed)
    labels = [line.split(",")[0] for line in DESCRIPTIONS.splitlines()]
    rows = []
    for _ in range(400):
        image = f"{rng.randrange(80):016x}"
        if rng.random() < 0.5:
            source, confidence = "verification", rng.choice(["0", "1"])
        else:
            source, confidence = "machine", f"{rng.random():.1f}"
        # Background labels are the most frequent ones.
        label = rng.choice(labels if rng.random() < 0.3 else labels[-5:])
        rows.append((image, source, label, confidence))
    if seed % 2:
        rows.sort()
    paths = []
    for number in range(2):
        paths.append(folder / f"labels_{number}.csv")
        lines = [",".join(row) for row in rows[number::2]]
        paths[-1].write_text(HEADER + "\n".join(lines) + "\n")
    return paths, rows


@pytest.mark.parametrize("seed", range(10))
def test_equals_sets_in_memory(files, seed):
    paths, rows = random_tables(files, seed)
    # What is below each label, written down by hand.
    classes = {
        "animal": {"/m/04rky", "/m/0bt9lr", "/m/01yrx", "/m/0brsdp"},
        "person": {"/m/01g317", "/m/04yx4", "/m/0dzct"},
    }
    threshold = seed / 10
    verified = {(i, la) for i, s, la, c in rows if s != "machine" and c == "1"}
    denied = {(i, la) for i, s, la, c in rows if s != "machine" and c == "0"}
    seen = {(i, la) for i, s, la, c in rows if s == "machine" and float(c) >= threshold}
    shown = verified | (seen - denied)
    removed = {
        name: {image for image, label in shown if label in labels}
        for name, labels in classes.items()
    }
    everything = {row[0] for row in rows}
    expected = sorted(everything - removed["animal"] - removed["person"])
    assert 0 < len(expected) < len(everything)

    # The URLs of two thirds of the images, twice, some of which are there already.
    rng = random.Random(seed)
    known = rng.sample(sorted(everything), len(everything) * 2 // 3)
    lines = [f'{i},train,http://x/{i}_o.jpg,l,c,p,"A, B",t,1,m,,0.0' for i in known]
    (files / "urls.csv").write_text(URLS + "\n".join(lines * 2) + "\n")
    (files / "jpg").mkdir()
    there = set(expected[::3])
    for image in expected:
        if image in there:
            (files / f"jpg/{image}.jpg").write_bytes(b"x")
        elif image in expected[::2]:
            # What a download left that broke.
            (files / f"jpg/{image}.jpg").touch()
    summary = write_candidates(
        foreground_of(files),
        paths,
        files / "out/list.txt",
        images=files / "jpg",
        confidence=threshold,
        image_ids=[files / "urls.csv"],
        download=files / "out/left.csv",
    )
    listed = (files / "out/list.txt").read_text().splitlines()
    assert listed == [f"../jpg/{image}.jpg" for image in expected]
    foreground_labels = classes["animal"] | classes["person"]
    assert summary["denied"] == sum(
        label in foreground_labels for _, label in (seen & denied) - verified
    )
    assert summary["per_class"] == [
        dict(
            name=name,
            images=len(removed[name]),
            alone=len(removed[name] - removed[other]),
        )
        for name, other in (("animal", "person"), ("person", "animal"))
    ]
    counts = {item["label"]: item["images"] for item in summary["per_label"]}
    assert counts == {
        label: count
        for label in foreground_labels
        if (count := sum(item[1] == label for item in shown))
    }
    with open(files / "out/left.csv", newline="") as file:
        left = list(csv.DictReader(file))
    wanted = [image for image in known if image in set(expected) - there]
    assert [row["ImageID"] for row in left] == wanted
    assert all(
        row["OriginalURL"] == f"http://x/{row['ImageID']}_o.jpg"
        and (row["Subset"], row["Rotation"]) == ("train", "0.0")
        for row in left
    )
    assert summary["download"] == dict(
        listed=len(wanted),
        present=len(there & set(known)),
        unknown=len(set(expected) - set(known)),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "",
            r"labels.csv:1: expected the header 'ImageID,Source,LabelName,Confidence'",
        ),
        (HEADER.replace("\n", ",XMin\n"), r"labels.csv:1: expected the header"),
        (HEADER, r"labels.csv hold no label"),
        (HEADER + "a,verification,/m/07j7r\n", r"labels.csv:2: expected 4 fields"),
        (HEADER + "\na,v,/m/07j7r,1,1\n", r"labels.csv:3: expected 4 fields .*got 5"),
        (HEADER + "a,v,/m/404,1\n", r"labels.csv:2: .*do not have the label '/m/404'"),
        (HEADER + "a,v,/m/0bt9lr,0.7\n", r"labels.csv:2: .*'v' must be 0 or 1, got '0"),
        (HEADER + "a,machine,/m/0bt9lr,\n", r"labels.csv:2: .*must be from 0 to 1, go"),
        (HEADER + "a,machine,/m/0bt9lr,nan\n", r"labels.csv:2: .*got 'nan'"),
        (HEADER + "../a,v,/m/07j7r,1\n", r"labels.csv:2: expected an ImageID .*'../a'"),
        (HEADER + ",v,/m/07j7r,1\n", r"labels.csv:2: expected an ImageID"),
        (HEADER + "a,v,/m/0bt9lr,1\n", r"each of the 1 images shows a foreground"),
        (HEADER + "a,v,\xff,1\n", r"labels.csv: not CSV in UTF-8"),
    ],
)
def test_wrong_label_files_leave_nothing(files, text, message):
    (files / "labels.csv").write_bytes(text.encode("latin-1"))
    out = files / "out/list.txt"
    with pytest.raises(ValueError, match=message):
        write_candidates(foreground_of(files), [files / "labels.csv"], out)
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "ImageID,Subset\n",
            r"urls.csv:1: .*OriginalURL,Thumbnail300KURL,Rotation too",
        ),
        (URLS + "a,train,u\n", r"urls.csv:2: expected 12 fields, got 3"),
    ],
)
def test_wrong_url_files_leave_nothing(files, text, message):
    (files / "labels.csv").write_text(HEADER + "a,verification,/m/07j7r,1\n")
    (files / "urls.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        write_candidates(
            foreground_of(files),
            [files / "labels.csv"],
            files / "out/list.txt",
            image_ids=[files / "urls.csv"],
            download=files / "out/left.csv",
        )
    assert list((files / "out").iterdir()) == []


def test_wrong_arguments(files):
    foreground = foreground_of(files)
    with pytest.raises(ValueError, match=r"out must be a .txt file"):
        write_candidates(foreground, [], "list.csv")
    with pytest.raises(ValueError, match="confidence must be between 0 and 1"):
        write_candidates(foreground, [], "list.txt", confidence=50)
    with pytest.raises(ValueError, match="image_ids and download need each other"):
        write_candidates(foreground, [], "list.txt", download="left.csv")


def test_sorts_beside_the_output(files, monkeypatch):
    # More than the database may hold in memory; nothing can be written elsewhere.
    monkeypatch.setattr("mmwood.converters.openimages.candidates.CACHE", 100)
    lines = [f"{n * 7919 % 20000:016x},verification,/m/07j7r,1" for n in range(20000)]
    (files / "labels.csv").write_text(HEADER + "\n".join(lines) + "\n")
    summary = write_candidates(
        foreground_of(files), [files / "labels.csv"], files / "it's/list.txt"
    )
    assert summary["candidates"] == 20000
    names = (files / "it's/list.txt").read_text().splitlines()
    assert names == [f"{number:016x}.jpg" for number in range(20000)]


def test_tables_name_each_class_and_label_once():
    names: dict[str, str] = {}
    root = Path(__file__).parents[2] / "configs/_base_/datasets"
    for table in TABLES:
        with TABLES[table].open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        scope: dict = {}
        exec((root / f"{table}_classes.py").read_text(), scope)
        assert list(dict.fromkeys(row["class"] for row in rows)) == scope["classes"]
        pairs = [(row["class"], row["label"]) for row in rows]
        assert len(pairs) == len(set(pairs))
        for row in rows:
            assert re.fullmatch(r"/[mg]/\w+", row["label"])
            assert row["descendants"] in ("yes", "no")
            # One label has one name, in both tables.
            assert names.setdefault(row["label"], row["name"]) == row["name"]


@pytest.mark.parametrize("table", sorted(TABLES))
def test_tables_are_read(tmp_path, table):
    with TABLES[table].open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    labels = {row["label"]: row["name"] for row in rows}
    with (tmp_path / "classes.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(labels.items())
    below = [{"LabelName": row["label"]} for row in rows if row["descendants"] == "yes"]
    tree = {"LabelName": "/m/0bl9f", "Subcategory": below}
    (tmp_path / "tree.json").write_text(json.dumps(tree))
    assert len(read_hierarchy(tmp_path / "tree.json")) <= len(below) + 1
    foreground = read_foreground(
        table, tmp_path / "classes.csv", tmp_path / "tree.json"
    )
    assert set(foreground.labels) == set(labels)
    assert not foreground.renamed
