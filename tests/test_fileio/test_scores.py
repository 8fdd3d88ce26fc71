import pytest

from mmwood.fileio.scores import refuse_other_content


@pytest.mark.parametrize(
    "text",
    [
        "image,labels\n",
        '[{"image": "a.jpg"}]',
        '{"images": [{"id": 1}], "annotations": []}',
        '{"a": {"b": [[{"c": 1}]]}}',
    ],
)
def test_scores_replace_scores_only(text, tmp_path):
    path = tmp_path / "out.json"
    refuse_other_content(path)
    path.write_text('{"mIoU": 43.5, "by class": {"cat": [1.0, [2.0]], "dog": null}}')
    refuse_other_content(path)
    path.write_text(text)
    with pytest.raises(FileExistsError, match=r"--out: .*out\.json is there and holds"):
        refuse_other_content(path)
    with pytest.raises(FileExistsError, match=r"--out: .* is there"):
        refuse_other_content(tmp_path)
