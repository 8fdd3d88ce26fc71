"""Names of images, tables and class names: what is read, and what is refused where."""

import unicodedata

import pytest
from PIL import Image

from mmwood.converters.coco import convert_coco
from mmwood.converters.cvat import read_cvat
from mmwood.converters.label_studio import read_label_studio
from mmwood.converters.pascal_b.annotations import (
    ClassTable,
    Item,
    Scene,
    read_annotations,
)
from mmwood.converters.pascal_b.choice import find_candidates
from mmwood.converters.table import read_table
from mmwood.converters.tags import convert_tags
from mmwood.converters.voc_aug import trainaug_ids
from mmwood.datasets import ImageLevelDataset
from mmwood.fileio.coco import image_name
from mmwood.fileio.files import write_json
from mmwood.fileio.label_folder import LabelFolder, image_ids
from mmwood.fileio.lists import (
    ImageIndex,
    TaggedImage,
    check_id,
    question_classes,
    read_id_list,
    refuse_shared_files,
    unknown_classes,
)
from mmwood.fileio.tables import read_csv
from mmwood.fileio.voc import tags_from_lists

BAD_IDS = (
    "/data/photos/a",
    "../a",
    "x/../../a",
    "x\\..\\a",
    "C:\\photos\\a",
    "c:a",
    "\\\\server\\a",
    ".tmp-a",
    "x/.tmp-1/a",
)


@pytest.mark.parametrize("name", [*BAD_IDS, "", "..", "a\x00b", "a\nb"])
def test_bad_ids(name, tmp_path):
    with pytest.raises(ValueError, match=r"tags\.csv:7: image .* expected a path rel"):
        check_id(name, "tags.csv:7")
    folder = LabelFolder(tmp_path / "out")
    for path in (folder.label, folder.scores, folder.instances, folder.picture):
        with pytest.raises(ValueError, match=r"out_dir: .*out: image id "):
            path(name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a", "a"),
        ("x/a.b", "x/a.b"),
        (".\\x\\a", "x/a"),
        ("an image (1)", "an image (1)"),
        ("..a", "..a"),
        ("ü/é", "ü/é"),
    ],
)
def test_good_ids(name, expected):
    assert check_id(name, "list.txt:1") == expected
    path = LabelFolder("out").label(name)
    assert path.as_posix() == f"out/labels/{expected}.png"


SOURCES = ("mask", "voc_xml", "voc_list", "coco", "csv", "none")


@pytest.mark.parametrize("source", SOURCES)
def test_every_label_source_refuses_bad_ids(source, tmp_path):
    """Before any file is looked for: the file may well be there."""
    name = "../a"
    (tmp_path / "list.txt").write_text(f"good\n{name}\n")
    (tmp_path / "cat_list.txt").write_text(f"good 1\n{name} 1\n")
    (tmp_path / "tags.csv").write_text(f"image,labels\ngood.jpg,cat\n{name}.jpg,cat\n")
    images = [dict(id=n, file_name=f"{f}.jpg") for n, f in enumerate(("good", name))]
    category = dict(id=1, name="cat")
    content = dict(images=images, annotations=[], categories=[category])
    write_json(tmp_path / "coco.json", content)
    ann_file = dict(coco="coco.json", csv="tags.csv").get(source, "list.txt")
    with pytest.raises(ValueError, match="expected a path relative") as error:
        ImageLevelDataset(
            ann_file=ann_file,
            label_source=source,
            classes=["cat"],
            data_root=str(tmp_path),
            data_prefix=dict(img_path="jpg", seg_map_path="png", xml_path="xml"),
        )
    place = dict(coco=r"images[1] (id 1)", csv=":3").get(source, ":2")
    assert f"{tmp_path / ann_file}" in str(error.value)
    assert place in str(error.value)


def label_studio(path, name):
    choice = dict(type="choices", from_name="c", value=dict(choices=["cat"]))
    task = dict(id=1, data=dict(image=name), annotations=[dict(result=[choice])])
    write_json(path, [task])
    return read_label_studio(path)


def cvat(path, name):
    tag = '<tag label="cat"/>'
    path.write_text(
        f'<annotations><image id="0" name="{name}">{tag}</image></annotations>'
    )
    return read_cvat(path)


def table(path, name):
    path.write_text(f"image,labels\n{name},cat\n")
    return read_table(path)


@pytest.mark.parametrize("reader", [label_studio, cvat, table])
@pytest.mark.parametrize("search", [False, True])
def test_tags_never_name_an_image_outside(reader, search, tmp_path):
    """A name leads to an image below the root, whose id is its path from there."""
    root = tmp_path / "root"
    for name in ("root/a.jpg", "outside/b.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 6)).save(tmp_path / name)
    for outside in (str(tmp_path / "outside/b.jpg"), "../outside/b.jpg"):
        source = reader(tmp_path / "export", outside)
        with pytest.raises(FileNotFoundError, match="1 of 1 images are not in"):
            convert_tags(root, source, search=search)
    assert not (root / "tags.csv").exists()
    convert_tags(root, reader(tmp_path / "export", "a.jpg"), search=search)
    assert read_csv(root / "tags.csv")[0].image == "a.jpg"


def test_converters_refuse_bad_ids(tmp_path):
    entry = dict(id=3, file_name="/data/a.jpg", height=6, width=8)
    annotation = dict(id=1, image_id=3, category_id=1, segmentation=[], area=0)
    content = dict(
        images=[entry], annotations=[annotation], categories=[dict(id=1, name="cat")]
    )
    path = tmp_path / "coco.json"
    for name in BAD_IDS:
        entry["file_name"] = name + ".jpg"
        write_json(path, content)
        for convert in (
            lambda: convert_coco(tmp_path, dict(train=path)),
            lambda: read_annotations(path, dict(cat=1)),
        ):
            with pytest.raises(ValueError, match=r"images\[0\] \(id 3\): file_name"):
                convert()
    lists = "ImageSets/Segmentation"
    (tmp_path / lists).mkdir(parents=True)
    for name in ("train", "val"):
        (tmp_path / lists / f"{name}.txt").write_text("a\n")
        (tmp_path / f"{name}.txt").write_text("../a\n")
    with pytest.raises(ValueError, match=r"train\.txt:1: image '\.\./a' leads out"):
        trainaug_ids(tmp_path, tmp_path)


@pytest.mark.parametrize(
    "names", [("A", "a"), ("ü", unicodedata.normalize("NFD", "ü"))]
)
def test_converters_refuse_names_that_some_file_systems_join(names, tmp_path):
    lists = "ImageSets/Segmentation"
    (tmp_path / lists).mkdir(parents=True)
    for name, image in zip(("train", "val"), names):
        (tmp_path / lists / f"{name}.txt").write_text(f"{image}\n")
        (tmp_path / f"{name}.txt").write_text(f"{names[0]}\n")
    with pytest.raises(ValueError, match=r"val\.txt:1: .* differ only in letter case"):
        trainaug_ids(tmp_path, tmp_path)
    item = Item(label=1, category=1, segmentation=[], area=1.0, crowd=False)
    scenes = {
        n: Scene(f"{name}.jpg", "", (6, 8), f"images[{n}]", items=[item])
        for n, name in enumerate(names)
    }
    table = ClassTable(("cat",), dict(lvis={}, coco=dict(cat=1)))
    with pytest.raises(ValueError, match=r"images\[1\]: .* differ only in letter case"):
        find_candidates({}, scenes, table)


def test_addresses_of_lvis():
    url = "http://images.cocodataset.org/val2017/7.jpg"
    assert image_name(dict(coco_url=url), "x") == ("val2017", "7.jpg")
    assert image_name(dict(coco_url=url, file_name="b/8.jpg"), "x")[1] == "b/8.jpg"
    for entry in ({}, dict(coco_url="7.jpg"), dict(coco_url=3), dict(file_name=3)):
        with pytest.raises(ValueError, match=r"^x"):
            image_name(entry, "x")


def items_of(*names):
    return [TaggedImage(n, None, f"list.txt:{i}") for i, n in enumerate(names, 1)]


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("a", "b", "a"), "was listed before"),
        (("x/Photo", "b", "x/photo"), "letter case"),
        (("STRASSE", "b", "straße"), "letter case"),
        (("ü", "b", unicodedata.normalize("NFD", "ü")), "form of Unicode"),
    ],
)
def test_two_images_never_share_a_file(names, reason):
    with pytest.raises(ValueError, match=rf"^list\.txt:3: .*{reason}") as error:
        refuse_shared_files(items_of(*names))
    assert "at list.txt:1" in str(error.value)
    assert repr(names[0]) in str(error.value)
    assert repr(names[2]) in str(error.value)
    infos = [dict(img_path=f"jpg/{number}/{n}.jpg") for number, n in enumerate(names)]
    # In folders of their own they are told apart.
    assert len(set(image_ids(infos).values())) == 3
    named = [dict(info, img_id=name) for info, name in zip(infos, names)]
    with pytest.raises(ValueError, match=reason):
        image_ids(named)
    refuse_shared_files(items_of("x/a", "y/a", "ab"))


def test_ids_of_images_that_have_none():
    paths = ["jpg/x/a.jpg", "jpg/y/a.png", "jpg/b.tif"]
    found = image_ids([dict(img_path=path) for path in paths])
    assert list(found.values()) == ["x/a", "y/a", "b"]
    assert list(image_ids([dict(img_path="/x/jpg/a.jpg")]).values()) == ["a"]
    assert list(image_ids([dict(img_path="x/a.jpg", img_id=12)]).values()) == ["12"]
    with pytest.raises(ValueError, match="listed before"):
        image_ids([dict(img_path="x/a.jpg"), dict(img_path="x/a.png")])


def test_images_that_no_path_tells_apart():
    twice = [dict(img_path="a.jpg", img_id=name) for name in ("jpg/a", "a")]
    with pytest.raises(ValueError, match=r"a\.jpg: one image has two ids, 'jpg/a' and"):
        image_ids(twice)
    with pytest.raises(ValueError, match="does not say where its images are"):
        image_ids([dict(img_path="a.jpg"), dict(img_id="b")])


def test_ids_of_images_named_from_here_and_from_the_root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    infos = [dict(img_path="x/a.jpg"), dict(img_path=str(tmp_path / "y/a.jpg"))]
    assert list(image_ids(infos).values()) == ["x/a", "y/a"]


def test_images_are_found_by_their_whole_name():
    index = ImageIndex(["x/a.jpg", "y/a.jpg", "b.jpg"], "f.json")
    assert index.find("root/images/y/a.png") == "y/a.jpg"
    assert index.find("root/images/x/a.png") == "x/a.jpg"
    assert index.find("elsewhere/b.jpg") == "b.jpg"
    # The same once more, as a sampler may repeat it.
    assert index.find("elsewhere/b.jpg") == "b.jpg"
    for path, reason in (
        ("root/z/a.jpg", "may be any of"),
        ("root/c.jpg", "lists no image of the name c"),
        ("other/b.jpg", r"b\.jpg would be both elsewhere/b\.jpg and other/b\.jpg"),
    ):
        with pytest.raises(ValueError, match=rf"^f\.json.*{reason}"):
            index.find(path)


def test_lists(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes("\ufeffan image\r\n\r\n x/b \r\n".encode())
    assert [(item.image, item.source) for item in read_id_list(path)] == [
        ("an image", f"{path}:1"),
        ("x/b", f"{path}:3"),
    ]
    path.write_bytes("a\nü\n".encode("cp1252"))
    with pytest.raises(ValueError, match=r"list\.txt:2: is not utf-8"):
        read_id_list(path)


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        (("cat", "Cat"), r"'cat' \(of 1 images\) is nearly .*list\.txt:2, 'Cat'"),
        (("hot dog", "hot_dog"), "is nearly that of"),
        (
            ("ü", unicodedata.normalize("NFD", "ü")),
            r"is nearly that of .*form: '\\xfc', 'u\\u0308'",
        ),
        (("cat", "nan"), r"'nan' \(of 1 images\) is what programs write"),
        (("cat", "None"), "is what programs write"),
        (("cat", "cat, dog"), "looks like several names"),
    ],
)
def test_questionable_classes(tags, reason, tmp_path):
    items = [TaggedImage("a", {tag}, f"list.txt:{n}") for n, tag in enumerate(tags, 1)]
    with pytest.raises(ValueError, match=reason):
        question_classes(items, "name the classes")
    for name in "ab":
        Image.new("RGB", (8, 6)).save(tmp_path / f"{name}.jpg")
    rows = "".join(f'{n}.jpg,"{tag}"\n' for n, tag in zip("ab", tags))
    (tmp_path / "tags.csv").write_text(f"image,labels\n{rows}", encoding="utf-8")
    source = read_table(tmp_path / "tags.csv")
    with pytest.raises(ValueError, match=r"name the classes with --classes:\n.*tags"):
        convert_tags(tmp_path, source)
    # Whoever names them means them.
    done = convert_tags(tmp_path, source, classes=tags, overwrite=True)
    assert done["images"] == 2


def test_ids_of_class_lists_may_hold_spaces(tmp_path):
    (tmp_path / "cat_train.txt").write_text("an image  1\nb\t-1\nc d 0\n")
    tags = tags_from_lists(tmp_path / "train.txt", ["cat"], use_difficult=False)
    found = [tags(item) for item in items_of("an image", "b", "c d")]
    assert found == [{"cat"}, set(), set()]


def test_unknown_classes_get_a_hint():
    classes = ["cat", "flügel"]
    assert unknown_classes({"cat"}, classes) is None
    for name, hint in (
        ("Cat", "'Cat' mean 'cat'"),
        ("cta", "'cta' mean 'cat'"),
        (unicodedata.normalize("NFD", "flügel"), "differ in their Unicode form"),
        ("nan", "leave the field empty"),
        ("cat, dog", "several names"),
        ("cat, cat", "several names"),
    ):
        assert hint in unknown_classes({name}, classes)
