import pytest
from mmengine.config import Config, ConfigDict
from mmengine.dataset import (
    BaseDataset,
    ConcatDataset,
    RepeatDataset,
    pseudo_collate,
)
from mmengine.hooks import EMAHook

from mmwood.models import CAMHead
from mmwood.utils.config import (
    leaf_dataset,
    leaf_datasets,
    type_name,
    without_names,
)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (dict(type="CAMHead"), "CAMHead"),
        (dict(type="mmwood.CAMHead"), "CAMHead"),
        (ConfigDict(type="mmwood.models.heads.CAMHead"), "CAMHead"),
        (dict(type=CAMHead), "CAMHead"),
        (ConfigDict(type=CAMHead), "CAMHead"),
        (dict(type=pseudo_collate), "pseudo_collate"),
        (EMAHook(), "EMAHook"),
        (dict(interval=1), ""),
        (dict(type=None), ""),
        (None, ""),
    ],
)
def test_name_of_a_type(config, expected):
    assert type_name(config) == expected


@pytest.mark.parametrize(
    "source",
    [
        "from mmwood.models import CAMHead\nhead = dict(type=CAMHead)",
        "import mmwood.models\nhead = dict(type=mmwood.models.CAMHead)",
    ],
)
def test_name_of_a_lazy_config_s_type(tmp_path, source):
    (tmp_path / "lazy.py").write_text(source)
    config = Config.fromfile(tmp_path / "lazy.py", lazy_import=True)
    assert type_name(config.head) == "CAMHead"
    assert type_name(config.to_dict()["head"]) == "CAMHead"


VOC = dict(type="PascalVOCDataset", pipeline=[])


@pytest.mark.parametrize(
    "config",
    [
        VOC,
        dict(type="RepeatDataset", times=2, dataset=VOC),
        dict(type="ConcatDataset", datasets=[VOC, dict(type="Other")]),
        dict(type="ConcatDataset", datasets=[dict(type="RepeatDataset", dataset=VOC)]),
    ],
)
def test_leaf_dataset_is_part_of_the_config(config):
    assert leaf_dataset(config) is VOC


@pytest.mark.parametrize("config", [None, {}, dict(datasets=[]), object()])
def test_no_leaf_dataset(config):
    assert not leaf_dataset(config).get("pipeline")


COCO = dict(type="Other")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (VOC, [VOC]),
        (dict(datasets=[dict(dataset=VOC), COCO]), [VOC, COCO]),
        (dict(dataset=dict(datasets=[COCO, VOC])), [COCO, VOC]),
        (dict(datasets=[]), []),
    ],
)
def test_leaf_datasets(config, expected):
    assert [*leaf_datasets(config)] == expected


@pytest.mark.slow
def test_leaf_datasets_that_are_built():
    one, other = (ListDataset([dict(img_path=name)]) for name in "ab")
    assert [*leaf_datasets(RepeatDataset(one, 2))] == [one]
    assert [*leaf_datasets(ConcatDataset([one, other]))] == [one, other]


class ListDataset(BaseDataset):
    """A data set of a list."""

    def __init__(self, infos: list) -> None:
        self.infos = infos
        super().__init__()

    def load_data_list(self) -> list:
        return self.infos


def test_names_are_left_out():
    def blur(results):
        return results

    load = dict(type="mmwood.LoadImage")
    assert without_names(dict(load=load, flip=None, blur=blur), "") == [load, blur]
    assert without_names([load, None], "pipeline") == [load]
    assert without_names(load, "pipeline") == [load]
    assert without_names((), "pipeline") == []


@pytest.mark.parametrize("item", [dict(prob=0.3), {}, 3])
def test_a_misspelt_name_is_named(item):
    pipeline = dict(load=dict(type="LoadImage"), flop=item, flip=dict(type="Flip"))
    message = "^pipeline.flop: has no type; the names in pipeline are load, flip$"
    with pytest.raises(ValueError, match=message):
        without_names(pipeline, "pipeline")
