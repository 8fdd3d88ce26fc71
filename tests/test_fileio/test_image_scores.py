"""Scores of any model: each form, and what is refused with its line or entry."""

import json
from pathlib import Path

import pytest
from PIL import Image

from mmwood.fileio.image_scores import read_names, read_scores

COCO = dict(
    images=[
        dict(id=7, file_name="a.jpg"),
        dict(id="x", file_name="deep/b.jpg"),
        dict(id=9, coco_url="http://images/val2017/c.jpg"),
    ],
    categories=[dict(id=40, name="cat"), dict(id=3, name="dog")],
)
RESULT = dict(image_id=7, category_id=40, bbox=[0, 0, 1, 1], score=0.75)


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        text = content if isinstance(content, str) else json.dumps(content)
        path.write_text(text, encoding="utf-8")
    return path


def make_yolo(root: Path, text: str = "1 .5 .5 .1 .1 0.25\n") -> tuple[Path, Path]:
    """Labels of a.jpg, none of deep/b.png; and the folder of images."""
    for name in ("images/a.jpg", "images/deep/b.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3)).save(root / name)
    write(root / "labels/a.txt", text)
    write(root / "names.txt", "cat\ndog\n")
    return root / "labels", root / "images"


def test_parquet_is_read_as_a_table(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = dict(
        score=arrow.array([0.5, 1.0, 0.25], arrow.float32()),
        image=["a.jpg", "b/c.jpg", "a.jpg"],
        box=[1, 2, 3],
        # As pandas' categories are written.
        **{"class": arrow.array(["dog", "cat", "dog"]).dictionary_encode()},
    )
    path = tmp_path / "s.parquet"
    parquet.write_table(arrow.table(columns), path, row_group_size=2)
    a, c = str(tmp_path / "a.jpg"), str(tmp_path / "b/c.jpg")
    scores = read_scores(path)
    assert scores.classes is None
    assert list(scores.rows) == [(a, "dog", 0.5), (c, "cat", 1.0), (a, "dog", 0.25)]
    names = write(tmp_path / "names.txt", "cat\n")
    for changes, options, message in (
        (dict(image=["a", None, "b"]), {}, "row 2: column 'image' names no image"),
        ({"class": ["a", "b", None]}, {}, "row 3: column 'class' names no class"),
        (dict(score=[0.5, 93.0, 0.1]), {}, r"row 2: the score is 93\.0; scores are"),
        (dict(score=[None, 0.5, 0.1]), {}, "row 1: the score is None"),
        ({}, dict(classes=names), r"row 1: .*dog"),
    ):
        parquet.write_table(arrow.table(columns | changes), path)
        with pytest.raises(ValueError, match=rf"s\.parquet: {message}"):
            list(read_scores(path, **options).rows)
    parquet.write_table(arrow.table(columns).drop_columns("score"), path)
    with pytest.raises(ValueError, match="columns image, class, score; it has image,"):
        list(read_scores(path).rows)


@pytest.mark.parametrize(
    "text",
    [
        "image,class,score\na.jpg,dog,0.5\nb\\c.jpg,cat,1\na.jpg,dog,1e-3\n",
        '\ufeffscore;image;box;class\r\n0.5;"a.jpg";1;dog\r\n;;;\r\n1;b/c.jpg;;cat\r\n'
        "0.001;./a.jpg;2;dog\r\n",
    ],
)
def test_a_table(text, tmp_path):
    path = write(tmp_path / "s.csv", text)
    a, c = str(tmp_path / "a.jpg"), str(tmp_path / "b/c.jpg")
    expected = [(a, "dog", 0.5), (c, "cat", 1.0), (a, "dog", 0.001)]
    scores = read_scores(path)
    assert scores.classes is None
    assert list(scores.rows) == expected
    assert len(scores.notes) == text.count(";;;")
    (tmp_path / "away").mkdir()
    names = write(tmp_path / "names.txt", "dog\ncat\nbird\n")
    scores = read_scores(path, root=tmp_path / "away", classes=names)
    assert scores.classes == ("dog", "cat", "bird")
    assert next(scores.rows) == (str(tmp_path / "away/a.jpg"), "dog", 0.5)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("image,label,score\n", r"s\.csv:1: .*lacks \['class'\]"),
        ("", r"s\.csv:1: .*lacks \['image', 'class', 'score'\]"),
        ("image,class,score\na,c,.5\na,c,high\n", r"s\.csv:3: the score is 'high'"),
        ("image,class,score\na,c,nan\n", r"s\.csv:2: the score is 'nan'"),
        ("image;class;score\na;c;0,7\n", r":2: the score is '0,7'.*decimal point"),
        ("image,class,score\na,c,87\n", r"s\.csv:2: .*divide percents by 100"),
        ("image,class,score\na,c,-0.1\n", r"s\.csv:2: .*sigmoid"),
        ("image,class,score\na,c,\n", r"s\.csv:2: the score is ''"),
        ("image,class,score\na,,1\n", r"s\.csv:2: column 'class' names no class"),
        ("image,class,score\n,c,1\n", r"s\.csv:2: column 'image' names no image"),
        ("image,class,score\na,c\n", r"s\.csv:2: expected 3 fields.*got 2"),
        ("image,class,score\na,dgo,1\n", r"s\.csv:2: .*Does 'dgo' mean 'dog'"),
        (b"image,class,score\na,\xff,1\n", r"s\.csv:2: is not utf-8"),
        (b"PK\3\4", r"s\.csv: is an Excel workbook"),
    ],
)
def test_wrong_tables(text, reason, tmp_path):
    path = write(tmp_path / "s.csv", text)
    known = None
    if "dgo" in str(text):
        known = write(tmp_path / "names.txt", "dog\ncat\n")
    with pytest.raises(ValueError, match=reason):
        list(read_scores(path, classes=known).rows)


def test_coco_results(tmp_path):
    annotations = write(tmp_path / "c.json", COCO)
    rle = dict(size=[2, 2], counts="04")
    results = [
        RESULT,
        dict(image_id="x", category_id=3, segmentation=rle, score=1, more=[1]),
    ]
    path = write(tmp_path / "r.json", results)
    scores = read_scores(path, root=tmp_path, annotations=annotations)
    assert scores.classes == ("dog", "cat")
    a, b, c = (str(tmp_path / n) for n in ("a.jpg", "deep/b.jpg", "val2017/c.jpg"))
    assert list(scores.rows) == [
        (a, None, 0.0),
        (b, None, 0.0),
        (c, None, 0.0),
        (a, "cat", 0.75),
        (b, "dog", 1.0),
    ]


@pytest.mark.parametrize(
    ("results", "reason"),
    [
        ([RESULT, dict(RESULT, image_id=8)], r"entry \[1\] has the unknown image_id 8"),
        ([dict(RESULT, category_id=None)], r"\[0\] has the unknown category_id None"),
        ([dict(RESULT, image_id=[7])], r"\[0\] has the unknown image_id \[7\]"),
        ([dict(RESULT, score="nan")], r"entry \[0\]: the score is 'nan'"),
        ([dict(RESULT, score=True)], r"entry \[0\]: the score is True"),
        ([dict(image_id=7, category_id=3)], r"entry \[0\] lacks score"),
        (COCO, r"entry \[0\] lacks image_id, category_id, score"),
        ([RESULT, 5], r"r\.json: expected COCO's results"),
        (RESULT, r"r\.json: expected COCO's results"),
        ("[{]", r"r\.json:1: not JSON"),
    ],
)
def test_wrong_results(results, reason, tmp_path):
    annotations = write(tmp_path / "c.json", COCO)
    path = write(tmp_path / "r.json", results)
    with pytest.raises(ValueError, match=reason):
        list(read_scores(path, annotations=annotations).rows)


def test_yolo_folder(tmp_path):
    text = "1 .5 .5 .1 .1 0.25\n0 .1 .1 .2 .1 .2 .2 0.5\n"
    labels, images = make_yolo(tmp_path, text)
    write(labels / "classes.txt", "cat\ndog\n")
    yaml = "names:\n  1: dog\n  0: cat\ntrain: images\n"
    data = write(tmp_path / "data.yaml", yaml)
    for names in (tmp_path / "names.txt", data):
        scores = read_scores(labels, root=images, classes=names)
        assert scores.classes == ("cat", "dog")
        a, b = str(images / "a.jpg"), str(images / "deep/b.png")
        assert list(scores.rows) == [
            (a, None, 0.0),
            (b, None, 0.0),
            (a, "dog", 0.25),
            (a, "cat", 0.5),
        ]
    write(data, "names: [cat, dog]\n")
    assert read_names(data) == {0: "cat", 1: "dog"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0 .5 .5 .1 .1\n", r"a\.txt:1: .*got 5 fields.*save_conf=True"),
        ("\n0 .5 .5 .1 .1 .9 3\n", r"a\.txt:2: .*got 7 fields"),
        ("5 .5 .5 .1 .1 .9\n", r"a\.txt:1: the unknown class 5; .*0 'cat', 1 'dog'"),
        ("cat .5 .5 .1 .1 .9\n", r"a\.txt:1: the unknown class cat"),
        ("0 .5 .5 .1 .1 nan\n", r"a\.txt:1: the score is 'nan'"),
    ],
)
def test_wrong_yolo_lines(text, reason, tmp_path):
    labels, images = make_yolo(tmp_path, text)
    with pytest.raises(ValueError, match=reason):
        list(read_scores(labels, images, classes=tmp_path / "names.txt").rows)


def test_wrong_yolo_folders(tmp_path):
    labels, images = make_yolo(tmp_path)
    names = tmp_path / "names.txt"
    with pytest.raises(ValueError, match="with --root, and the data"):
        read_scores(labels, images)
    write(labels / "z.txt", "")
    with pytest.raises(ValueError, match=r"z\.txt: --root .* no image of the name z"):
        list(read_scores(labels, images, classes=names).rows)
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"--scores: .*none holds no \.txt"):
        list(read_scores(tmp_path / "none", images, classes=names).rows)
    with pytest.raises(ValueError, match=r"--root: .*none holds no image"):
        list(read_scores(labels, tmp_path / "none", classes=names).rows)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("names: [a, [b]]\n", "must list the classes"),
        ("names:\n  0: no\n", "quote names"),
        ("a: [\n", r"data\.yaml:2: not YAML"),
        ("names: []\n", "names no class"),
        ("names: [a, a]\n", "a name occurs twice"),
    ],
)
def test_wrong_names(content, reason, tmp_path):
    with pytest.raises(ValueError, match=reason):
        read_names(write(tmp_path / "data.yaml", content))


def test_options_that_do_not_fit(tmp_path):
    table = write(tmp_path / "s.csv", "image,class,score\n")
    with pytest.raises(FileNotFoundError, match=r"no file or folder .*none"):
        read_scores(tmp_path / "none.csv")
    with pytest.raises(FileNotFoundError, match="--root: there is no folder"):
        read_scores(table, root=tmp_path / "none")
    with pytest.raises(ValueError, match="--annotations is for COCO's results"):
        read_scores(table, annotations=table)
    results = write(tmp_path / "r.json", [])
    with pytest.raises(ValueError, match="with --annotations, and no --classes"):
        read_scores(results)
    with pytest.raises(ValueError, match=r"s\.parquet cannot be read as Parquet"):
        list(read_scores(write(tmp_path / "s.parquet", b"PAR1")).rows)
