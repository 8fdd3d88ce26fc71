"""Tables, Label Studio and CVAT exports, as these programs write them."""

import json
import unicodedata

import pytest
from PIL import Image

from mmwood.converters.cvat import read_cvat
from mmwood.converters.label_studio import read_label_studio
from mmwood.converters.table import read_table
from mmwood.converters.tags import ImageFinder, convert_tags
from mmwood.datasets import ImageLevelDataset
from mmwood.fileio.tables import read_csv


def tags_of(source):
    return {item.image: item.tags for item in source.items}


@pytest.fixture
def images(tmp_path):
    """A folder with a.jpg, b.jpg and jpg/c.jpg."""
    (tmp_path / "data/jpg").mkdir(parents=True)
    for name in ("a.jpg", "b.jpg", "jpg/c.jpg"):
        Image.new("RGB", (8, 6)).save(tmp_path / "data" / name)
    return tmp_path / "data"


@pytest.fixture
def save(tmp_path):
    def save(name, content):
        path = tmp_path / name
        content = content if isinstance(content, bytes) else content.encode("utf-8")
        path.write_bytes(content)
        return path

    return save


ROW_AN_IMAGE = (
    'file,species,place\na.jpg,cat; dög,"x, y"\nb.jpg,,z\n\njpg/c.jpg,dög,z\n'
)
ROW_A_PAIR = "file\tspecies\na.jpg\tcat\nb.jpg\t\na.jpg\tdög\njpg/c.jpg\tdög\n"
COLUMNS = dict(image_column="file", label_column="species")
EXPECTED = {"a.jpg": {"cat", "dög"}, "b.jpg": set(), "jpg/c.jpg": {"dög"}}


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
@pytest.mark.parametrize(
    "text",
    [
        ROW_AN_IMAGE,
        ROW_A_PAIR,
        ROW_A_PAIR.replace("\t", ";").replace("\n", "\r\n"),
        ROW_AN_IMAGE.replace(",", ";").replace("cat; dög", '"cat; dög"'),
    ],
)
def test_tables(text, encoding, save, images):
    path = save("labels.csv", text.encode(encoding))
    options = dict(COLUMNS)
    if not encoding.startswith("utf-8"):
        with pytest.raises(ValueError, match=r"labels\.csv:[1-5]: is not utf-8:"):
            read_table(path, **COLUMNS)
        options["encoding"] = encoding
    source = read_table(path, **options)
    assert tags_of(source) == EXPECTED

    done = convert_tags(images, source)
    assert (done["images"], done["untagged"]) == (3, 1)
    assert done["classes"] == {"cat": 1, "dög": 2}
    assert {i.image: i.tags for i in read_csv(images / "tags.csv")} == EXPECTED
    dataset = ImageLevelDataset(
        ann_file="tags.csv", data_root=str(images), classes="classes.txt"
    )
    assert [dataset.get_cat_ids(index) for index in range(3)] == [[0, 1], [], [1]]


def test_bad_tables(save, tmp_path):
    def refuses(content, match, **options):
        with pytest.raises(ValueError, match=match):
            read_table(save("t.csv", content), **{**COLUMNS, **options})

    refuses("name,tag\na.jpg,cat\n", r"t\.csv:1: the header must name .*\['name', 't")
    refuses("file,species,file\n", r"t\.csv:1: .* once")
    refuses("", r"t\.csv:1: the header")
    refuses("file,species\na.jpg,cat\nb.jpg,cat,dog\n", r"t\.csv:3: expected 2 fields")
    refuses("file;species\na.jpg;cat;dog\n", r"t\.csv:2: .* separated by ';'")
    refuses("file,species\n ,cat\n", r"t\.csv:2: column 'file' names no image")
    refuses('file,species\na.jpg,"cat\nb.jpg,dog\n', r"t\.csv:\d: unexpected end")
    refuses(b"file,species\na.jpg,cat\nb.jpg,d\xf6g\n", r"t\.csv:3: is not utf-8:")
    refuses("file,species\n", "encoding", encoding="klingon")
    with pytest.raises(FileNotFoundError, match="there is no table"):
        read_table(tmp_path / "none.csv")
    source = read_table(
        save("t.csv", "image,labels\na.jpg,cat dog|dog\n"), separator="|"
    )
    assert tags_of(source) == {"a.jpg": {"cat dog", "dog"}}


def test_refusals_of_tags(images, save):
    def source(text):
        return read_table(save("t.csv", "image,labels\n" + text))

    with pytest.raises(FileNotFoundError, match=r"(?s)1 of 2 .*t\.csv:3: d\.jpg"):
        convert_tags(images, source("a.jpg,cat\nd.jpg,cat\n"))
    with pytest.raises(FileNotFoundError, match="not in"):
        convert_tags(images / "jpg", source("../a.jpg,cat\n"))
    with pytest.raises(ValueError, match=r"t\.csv:2: .* unknown class \['cat'\]"):
        convert_tags(images, source("a.jpg,cat\n"), classes=["dog"])
    with pytest.raises(ValueError, match="no image has a tag"):
        convert_tags(images, source("a.jpg,\n"))
    Image.new("RGB", (8, 6)).save(images / "a.png")
    for other in ("a.png", "jpg/../a.jpg", str(images / "a.jpg")):
        with pytest.raises(ValueError, match=r"t\.csv:3: .*'a\.jpg' at .*:2"):
            convert_tags(images, source(f"a.jpg,cat\n{other},dog\n"))
    convert_tags(images, source("a.jpg,cat\n"))
    before = (images / "tags.csv").stat().st_ino
    assert convert_tags(images, source("a.jpg,cat\n"))["kept"] == 2
    assert (images / "tags.csv").stat().st_ino == before
    with pytest.raises(FileExistsError, match=r"tags\.csv is there"):
        convert_tags(images, source("b.jpg,cat\n"))
    convert_tags(images, source("c.jpg,cat\n"), images="jpg", overwrite=True)
    assert read_csv(images / "tags.csv")[0].image == "jpg/c.jpg"


def choices(names, control="choice"):
    return dict(
        id="x1",
        type="choices",
        from_name=control,
        to_name="image",
        origin="manual",
        value=dict(choices=names),
    )


def task(number, image, *annotations):
    return dict(
        id=number,
        annotations=list(annotations),
        predictions=[],
        file_upload="3f2a9c1b-a.jpg",
        data=dict(image=image),
        meta={},
    )


def annotated(*results, cancelled=False):
    return dict(id=1, completed_by=1, result=list(results), was_cancelled=cancelled)


TASKS = [
    task(1, "/data/upload/1/3f2a9c1b-a.jpg", annotated(choices(["cat", "dog"]))),
    task(
        2,
        "/data/local-files/?d=work/data/b.jpg",
        annotated(),
        annotated(choices(["dog"])),
    ),
    task(3, "s3://bucket/jpg/c.jpg", annotated(choices(["cat"]), cancelled=True)),
    task(4, "https://example.org/old/jpg/c.jpg?sign=1", annotated(choices(["dog"]))),
    task(5, "/data/upload/1/99999999-new.jpg"),
]


def test_label_studio_json(save, images):
    source = read_label_studio(save("project.json", json.dumps(TASKS)))
    assert [item.tags for item in source.items] == [{"cat", "dog"}, {"dog"}, {"dog"}]
    assert [note.split(": ", 1)[1] for note in source.notes] == [
        "2 tasks have no annotation and are left out",
        "1 cancelled annotations are left out",
        "1 images have annotations that disagree; they get the tags of all",
    ]
    convert_tags(images, source, search=True)
    assert [(item.image, item.tags) for item in read_csv(images / "tags.csv")] == [
        ("a.jpg", {"cat", "dog"}),
        ("b.jpg", {"dog"}),
        ("jpg/c.jpg", {"dog"}),
    ]


def test_label_studio_other_exports(save):
    first = "/data/upload/1/x-a.jpg"
    expected = {first: {"cat", "dog"}, "b.jpg": {"dog"}, "c.jpg": set()}
    rows = [
        dict(image=first, id=1, choice=dict(choices=["cat", "dog"])),
        dict(image="b.jpg", id=2, choice="dog", annotator=1),
        dict(image="c.jpg", id=3, annotator=1),
    ]
    source = read_label_studio(save("min.json", json.dumps(rows)))
    assert tags_of(source) == expected
    text = (
        "annotation_id,annotator,choice,created_at,id,image,lead_time\n"
        '1,1,"{""choices"":[""cat"",""dog""]}",2024-01-01T00:00:00Z,1,'
        "/data/upload/1/x-a.jpg,1.5\n"
        "2,1,dog,2024-01-01T00:00:00Z,2,b.jpg,1.5\n"
        "3,1,,2024-01-01T00:00:00Z,3,c.jpg,1.5\n"
    )
    source = read_label_studio(save("export.csv", "\ufeff" + text))
    assert tags_of(source) == expected
    assert not source.notes


def test_label_studio_refusals(save, tmp_path):
    def refuses(content, match, name="p.json", **options):
        if not isinstance(content, str):
            content = json.dumps(content)
        with pytest.raises(ValueError, match=match):
            read_label_studio(save(name, content), **options)

    refuses('[\n{"id": 1,]', r"p\.json:2: not JSON")
    refuses({}, "expected a list")
    two = annotated(choices(["cat"]), choices(["wet"], "weather"))
    refuses([task(1, "a.jpg", two)], r"name one of \['choice', 'weather'\]")
    refuses(TASKS, r"no Choices 'kind' .*\['choice'\]", control="kind")
    refuses(TASKS, r"task 1: its data has no image 'photo'", image_key="photo")
    refuses([dict(id=8, data=dict(image="a.jpg"))], "task 8: lacks the list of annot")
    wrong = choices(["cat"])
    wrong["value"] = dict(rating=3)
    refuses([task(6, "a.jpg", annotated(wrong))], r"task 6: expected .*choices")
    refuses([dict(image="a.jpg", kind="cat")], r"no task has the Choices 'choice'")
    refuses("image,choices\na.jpg,cat\n", r"p\.csv:1: the header", name="p.csv")
    refuses('image,choice\na.jpg,"{cat"\n', r"p\.csv:2: not JSON", name="p.csv")
    with pytest.raises(FileNotFoundError, match="there is no export"):
        read_label_studio(tmp_path / "none.json")
    both = read_label_studio(
        save("p.json", json.dumps([task(1, "a.jpg", two)])), control="weather"
    )
    assert tags_of(both) == {"a.jpg": {"wet"}}


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><id>3</id><name>pets</name><labels>
    <label><name>dög</name><color>#ff0000</color><type>tag</type>
      <attributes></attributes></label>
    <label><name>cat</name><color>#00ff00</color><type>any</type>
      <attributes></attributes></label>
    <label><name>ear</name><color>#0000ff</color><type>rectangle</type>
      <attributes></attributes></label>
  </labels></task><dumped>2024-01-01</dumped></meta>
  <image id="0" name="a.jpg" width="8" height="6">
    <tag label="cat" source="manual"></tag>
    <tag label="dög" source="manual"><attribute name="age">3</attribute></tag>
    <box label="ear" source="manual" occluded="0" xtl="1" ytl="1" xbr="2" ybr="2"
      z_order="0"></box>
  </image>
  <image id="1" name="b.jpg" width="8" height="6"></image>
  <image id="2" name="upload/jpg/c.jpg" subset="Train" width="8" height="6">
    <tag label="dög" source="manual"></tag>
  </image>
</annotations>
"""


def test_cvat(save, images):
    path = save("annotations.xml", CVAT)
    source = read_cvat(path)
    assert source.classes == ["dög", "cat"]
    assert source.notes == [f"{path}: 1 shapes are left out"]
    done = convert_tags(images, source, search=True)
    assert done["classes"] == {"dög": 2, "cat": 1}
    items = read_csv(images / "tags.csv")
    assert {item.image: item.tags for item in items} == EXPECTED


def test_cvat_refusals(save, tmp_path):
    def refuses(text, match):
        with pytest.raises(ValueError, match=match):
            read_cvat(save("annotations.xml", text))

    refuses(CVAT[:900], r"annotations\.xml:\d+: not XML")
    refuses(
        "<annotations><track/></annotations>", "expected <annotations> with <image>"
    )
    refuses("<annotation><image/></annotation>", "got <annotation>")
    refuses(CVAT.replace('name="b.jpg"', ""), "image id 1: has no name")
    refuses(CVAT.replace('name="b.jpg"', 'name="a.jpg"'), r"id 1: 'a\.jpg' is also")
    refuses(CVAT.replace('<tag label="cat"', "<tag"), "id 0: a <tag> has no label")
    with pytest.raises(FileNotFoundError, match="there is no export"):
        read_cvat(tmp_path / "none.xml")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jpg", "a.jpg"),
        ("/somewhere/else/jpg/c.jpg", "jpg/c.jpg"),
        ("c.jpg", None),
        ("../a.jpg", "a.jpg"),
        ("/data/upload/7/0123abcd-a.jpg", "a.jpg"),
        # Eight digits in the midst of a name are its own.
        ("/data/upload/7/a0123abcd-.jpg", None),
        ("gs://bucket/a.jpg", "a.jpg"),
        ("https://example.org/%61.jpg", "a.jpg"),
        ("/data/local-files/?d=jpg/c.jpg", "jpg/c.jpg"),
        ("", None),
        ("/", None),
    ],
)
def test_find_image(images, name, expected):
    assert ImageFinder(images).search(name, "here") == expected


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_several_results_of_one_task(save, suffix):
    """Mixed as Label Studio writes them: texts, objects, and lists of both."""
    values = {
        "a.jpg": ["cat", "dog"],
        "b.jpg": [{"choices": ["cat", "dog"]}, "cow"],
        "c.jpg": "cat",
        "d.jpg": {"choices": ["cat"]},
        "e.jpg": "",
    }
    if suffix == ".csv":
        cells = [v if isinstance(v, str) else json.dumps(v) for v in values.values()]
        quoted = [cell.replace('"', '""') for cell in cells]
        rows = [f'{name},"{cell}"' for name, cell in zip(values, quoted)]
        content = "\n".join(["image,choice", *rows])
    else:
        content = json.dumps(
            [dict(id=n, image=i, choice=v) for n, (i, v) in enumerate(values.items())]
        )
    assert tags_of(read_label_studio(save(f"export{suffix}", content))) == {
        "a.jpg": {"cat", "dog"},
        "b.jpg": {"cat", "dog", "cow"},
        "c.jpg": {"cat"},
        "d.jpg": {"cat"},
        "e.jpg": set(),
    }
    for wrong in ('{"choice": ["cat"]}', "[3]", '[{"choices": "cat"}, 4]', "[cat"):
        cell = wrong.replace('"', '""')
        path = save("export.csv", f'image,choice\na.jpg,"{cell}"\n')
        with pytest.raises(ValueError, match=r"export\.csv:2: (expected|not JSON)"):
            read_label_studio(path)


@pytest.mark.parametrize(
    ("name", "uploaded"),
    [
        ("IMG 001.jpg", "a1b2c3d4-IMG_001.jpg"),
        ("photo (3).jpg", "00ff00ff-photo_3.jpg"),
        ("a.jpg", "12345678-a.jpg"),
        ("deep/x & y.jpg", "12345678-x__y.jpg"),
        ("Flügel #2.jpg", "12345678-Flügel_2.jpg"),
    ],
)
def test_names_that_an_upload_has_cleaned(name, uploaded, images):
    (images / name).parent.mkdir(exist_ok=True)
    Image.new("RGB", (8, 6)).save(images / name)
    assert ImageFinder(images).search(f"/data/upload/1/{uploaded}", "t.csv:2") == name


def test_an_upload_that_may_be_two_images(images):
    for name in ("x 1.jpg", "jpg/x_1.jpg"):
        Image.new("RGB", (8, 6)).save(images / name)
    # The one of exactly that name comes first.
    assert (
        ImageFinder(images, "jpg").search("/data/upload/1/12345678-x_1.jpg", "t.csv:2")
        == "jpg/x_1.jpg"
    )
    with pytest.raises(ValueError, match=r"any of \['jpg/x_1\.jpg', 'x 1\.jpg'\]"):
        ImageFinder(images).search("/data/upload/1/12345678-x_1.jpg", "t.csv:2")


def test_a_malformed_address_is_named(images):
    with pytest.raises(ValueError, match=r"t\.csv:2: image '//\[1/a\.jpg': "):
        ImageFinder(images).search("//[1/a.jpg", "t.csv:2")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("other", ["NFC", "NFD"])
def test_umlauts_of_macos(form, other, images, save):
    name, listed = (unicodedata.normalize(f, "flügel.jpg") for f in (form, other))
    Image.new("RGB", (8, 6)).save(images / name)
    assert ImageFinder(images).search(f"/data/upload/1/{listed}", "t.csv:2") == name
    convert_tags(images, read_table(save("t.csv", f"image,labels\n{listed},cat\n")))
    assert read_csv(images / "tags.csv")[0].image == name
    (images / "listed.csv").write_text(f"image,labels\n{listed},cat\n")
    dataset = ImageLevelDataset(
        ann_file="listed.csv", data_root=str(images), classes=["cat"]
    )
    assert dataset.get_data_info(0)["img_path"] == str(images / name)


@pytest.mark.parametrize(
    "name", [r"jpg\c.jpg", r".\jpg\c.jpg", r"/data/local-files/?d=\work\jpg\c.jpg"]
)
def test_paths_of_windows(name, images, save):
    table = read_table(save("t.csv", f"image,labels\n{name},cat\n"))
    convert_tags(images, table, search="local-files" in name)
    assert read_csv(images / "tags.csv")[0].image == "jpg/c.jpg"
    if "local-files" not in name:
        (images / "own.csv").write_text(f"image,labels\n{name},cat\n")
        dataset = ImageLevelDataset(
            ann_file="own.csv", data_root=str(images), classes=["cat"]
        )
        assert dataset.get_data_info(0)["img_id"] == "jpg/c"
