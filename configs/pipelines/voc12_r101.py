# The published protocol on PASCAL VOC 2012: IRN's classifier and W-OoD's, each with its
# maps spread by IRN, then DeepLab-v2 on ResNet-101. docs/reproduce.md says what to fetch.
# With several GPUs: --gpus N. A training that was ended continues from its last checkpoint.
_base_ = ["../_base_/pipelines/published.py", "../_base_/datasets/voc_classes.py"]

work_dir = "work_dirs/voc12"
_voc = "data/VOCdevkit/VOC2012"
inputs = dict(
    data=_voc,
    masks=f"{_voc}/SegmentationClassAug",
    # Open Images without every image that shows one of the classes.
    candidates="data/openimages/candidates.txt",
    classifier_config="configs/classification/resnet50_voc12aug.py",
    plain_config="configs/classification/resnet50_voc12aug.py",
    wood_config="configs/wood/resnet50_wood_voc12aug.py",
    irn_config="configs/irn/resnet50_irn_voc12aug.py",
    segmentor_a_config="configs/segmentation/deeplabv2_r101_voc_deeplab-pytorch.py",
    segmentor_b_config="configs/sbce/deeplabv2_r101_voc_single-run.py",
)
# Labels are made of all of trainaug.
_all = {
    "test_dataloader.dataset.ann_file": "ImageSets/Segmentation/trainaug.txt",
    "test_dataloader.dataset.data_prefix.seg_map_path": "SegmentationClassAug",
}
stages = dict(
    # Candidates at VOC's long side, as in W-OoD's program.
    mine=dict(args=["--candidates", "{candidates}", "--size", "500"]),
    report=dict(
        report=dict(
            title="PASCAL VOC 2012",
            text="10,582 images of PASCAL VOC 2012 (trainaug) to train with, by their "
            "tags alone, and the 1,449 of val to test with.",
            data=dict(
                images="{data}/JPEGImages",
                suffix=".jpg",
                masks="{masks}",
                classes={{_base_.classes}},
            ),
        )
    ),
)
for _b in ("plain", "wood"):
    stages[f"seeds_{_b}"] = stages[f"masks_{_b}"] = dict(options=_all)
