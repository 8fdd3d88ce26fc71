"""Tables of tags: what is read, and what is refused with its line."""

import pytest

from mmwood.converters.table import read_table
from mmwood.fileio.tables import read_csv


def tag_table(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "tags.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_tables_are_read_leniently(tmp_path):
    expected = {"a.jpg": {"cat", "dog"}, "b.jpg": set(), "c d.jpg": {"cat"}}
    for text in (
        "image,labels\na.jpg,cat; dog\nb.jpg,\nc d.jpg,cat\n",
        '\ufeffimage;labels;who\r\na.jpg;"cat;dog";me\r\n;;\r\nb.jpg;;\r\n'
        "c d.jpg;cat;\r\n",
        "labels\timage\n\ncat;dog\ta.jpg\n\tb.jpg\n \t \ncat\tc d.jpg\n\n",
    ):
        found = read_csv(tag_table(tmp_path, text))
        assert {item.image: item.tags for item in found} == expected
    for text, encoding, reason in (
        ("image,labels\na.jpg,flügel\n", "cp1252", r":2: is not utf-8.*--encoding"),
        ("image,labels\na.jpg,cat\n", "utf-16", ":1: is not utf-8.*cp1252"),
        ("picture|labels\n", "utf-8", r":1: .*\['picture\|labels'\], separated by ','"),
    ):
        with pytest.raises(ValueError, match=rf"tags\.csv{reason}"):
            read_csv(tag_table(tmp_path, text, encoding))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"PK\3\4\x14\0", r"tags\.csv: is an Excel workbook or an archive"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", r"tags\.csv: is an Excel workbook"),
        (
            b"image;labels\na.jpg;cat;dog\n",
            r":2: .*semicolons, in quotation marks",
        ),
        (b"image,labels\na.jpg,cat,dog\n", r":2: .*an image by semicolons\)"),
        (b"image,labels\na.jpg\n", r":2: expected 2 fields"),
        (b"picture,labels\n", r":1: .*lacks \['image'\]"),
        (b'image,labels\n"a.jpg,cat\n', "that begins with a quotation mark must end"),
    ],
)
def test_what_to_do_about_tables(content, reason, tmp_path):
    (tmp_path / "tags.csv").write_bytes(content)
    for read in (read_csv, read_table):
        with pytest.raises(ValueError, match=reason):
            read(tmp_path / "tags.csv")


def test_empty_rows_are_counted(tmp_path):
    path = tag_table(tmp_path, "image;labels\n;\na.jpg;cat\n\n ; \n")
    notes = []
    assert len(read_csv(path, notes)) == 1
    assert notes == read_table(path).notes == [f"{path}: empty rows, passed over: 3"]
    assert read_table(tag_table(tmp_path, "image,labels\na.jpg,cat\n")).notes == []
