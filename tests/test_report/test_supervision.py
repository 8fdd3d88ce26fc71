"""A report says what a model behind its labels was trained with beside the tags."""

import pytest

from mmwood.fileio.files import write_json
from mmwood.fileio.label_folder import PSEUDO_LABELS, LabelFolder
from mmwood.report.page import _summary
from mmwood.report.spec import Branch, Labels, Spec


@pytest.mark.parametrize("supervision", [None, "captions of other images"])
def test_summary(tmp_path, supervision):
    folder = LabelFolder(tmp_path / "labels")
    manifest = dict(format=PSEUDO_LABELS, classes=["a"], complete=True)
    if supervision:
        manifest["supervision"] = supervision
    write_json(folder.manifest_path, manifest)
    labels = [
        Labels("seeds", folder.root, None, None, "branches.0.labels.0"),
        Labels("others", tmp_path, None, None, "branches.0.labels.1"),
        Labels("none", None, None, None, "branches.0.labels.2"),
    ]
    branch = Branch("of CLIP", labels, [])
    spec = Spec("t", tmp_path / "spec.json", branches=[branch])
    said = [text for text in _summary(spec, []) if "more than the tags" in text]
    sentence = (
        "The seeds of CLIP come from a model that was trained with more than the tags: "
        "captions of other images."
    )
    assert said == [sentence] * bool(supervision)
