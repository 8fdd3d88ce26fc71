# DeepLab-v2 on Wide ResNet-38 from the pseudo masks that voc12_r101.py has made: run that
# one first, at least until its masks (--until masks_plain, --until masks_wood).
_base_ = "./voc12_r101.py"

work_dir = "work_dirs/voc12_wrn38"
inputs = dict(
    plain_labels="work_dirs/voc12/masks_plain/pseudo_labels/labels",
    wood_labels="work_dirs/voc12/masks_wood/pseudo_labels/labels",
    segmentor_a_config="configs/segmentation/deeplabv2_wrn38_voc.py",
    segmentor_b_config="configs/sbce/deeplabv2_wrn38_voc_single-run.py",
)
stages = dict(classifier=None, mine=None, review=None, wood=None, clusters=None)
for _stage in ("filter", "filter_scores", "segmentor_filter", "test_filter"):
    stages[_stage] = None
_branches = []
_upper = dict(
    a=dict(upper_bound=dict(when="upper_bound", folder="{test_upper.dir}")), b={}
)
for _b, _name in dict(plain="without OoD images", wood="with OoD images").items():
    stages.update(
        {
            f"{_stage}_{_b}": None
            for _stage in ("seeds", "affinity", "crf", "crf_scores", "irn", "masks")
        }
    )
    for _task in "ab":
        stages[f"segmentor_{_task}_{_b}"] = dict(
            options={
                "train_dataloader.dataset.data_prefix.seg_map_path": f"{{{_b}_labels}}"
            }
        )
    _branches.append(
        dict(
            name=_name,
            networks=[
                dict(
                    name=_title,
                    folder=f"{{test_{_task}_{_b}.dir}}",
                    predictions=f"{{test_{_task}_{_b}.dir}}/predictions",
                    **_upper[_task],
                )
                for _task, _title in (
                    ("a", "network trained with cross-entropy (task A)"),
                    ("b", "size-balanced with SB-CE and EWC (task B)"),
                )
            ],
        )
    )
stages["report"] = dict(
    report=dict(
        title="PASCAL VOC 2012, Wide ResNet-38",
        branches=_branches,
        mining=None,
        review=None,
        figures=[],
    )
)
