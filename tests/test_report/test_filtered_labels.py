"""Labels with pixels that the label filter removed, in a report."""

import numpy as np
import pytest

from mmwood.fileio.files import write_json
from mmwood.fileio.label_folder import PSEUDO_LABELS, LabelFolder
from mmwood.fileio.labels import save_label_png
from mmwood.functional.confusion import image_miou
from mmwood.report.cards import Album
from mmwood.report.page import _legend
from mmwood.report.spec import Branch, Data, Labels, Spec


@pytest.mark.parametrize("filtered", [False, True])
def test_the_legend_and_the_miou_of_an_image(tmp_path, filtered):
    folder = LabelFolder(tmp_path / "labels")
    manifest = dict(format=PSEUDO_LABELS, classes=["a", "b"], complete=True)
    if filtered:
        manifest["biased"] = 254
    write_json(folder.manifest_path, manifest)
    label = np.array([[0, 1, 254], [2, 2, 0]], dtype=np.uint8)
    save_label_png(label, folder.label("x"))
    data = Data(tmp_path, ".jpg", None, ["a", "b"])
    labels = Labels("masks", folder.root, None, None, "branches.0.labels.0")
    branch = Branch("plain", [labels], [])
    spec = Spec("t", tmp_path / "spec.json", data=data, branches=[branch])
    removed = [("removed by the label filter", "#ff00ff")]
    named = [("a", "#800000"), ("b", "#008000")]
    assert _legend(spec) == named + filtered * removed
    truth = np.array([[0, 1, 1], [2, 0, 0]], dtype=np.uint8)
    found = Album(data, "data").miou(folder.label("x"), truth)
    void = np.where(label == 254, np.uint8(255), label)
    assert found == image_miou(void, truth, 2)
