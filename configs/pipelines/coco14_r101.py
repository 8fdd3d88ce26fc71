# COCO 2014, as voc12_r101.py: 80 classes, 82,783 images of train2014, tested on val2014.
_base_ = ["../_base_/pipelines/published.py", "../_base_/datasets/coco_classes.py"]

work_dir = "work_dirs/coco14"
inputs = dict(
    data="data/coco2014",
    masks="data/coco2014/SegmentationClass",
    # Open Images without every image that shows one of the classes.
    candidates="data/openimages/candidates_coco.txt",
    classifier_config="configs/classification/resnet50_coco14.py",
    plain_config="configs/classification/resnet50_coco14.py",
    wood_config="configs/wood/resnet50_wood_coco14.py",
    irn_config="configs/irn/resnet50_irn_coco14.py",
    segmentor_a_config="configs/segmentation/deeplabv2_r101_coco14.py",
    segmentor_b_config="configs/sbce/deeplabv2_r101_coco14_single-run.py",
)
stages = dict(
    report=dict(
        report=dict(
            title="COCO 2014",
            text="The images of train2014 to train with, by their tags alone, and those "
            "of val2014 to test with.",
            data=dict(
                images="{data}/train2014",
                suffix=".jpg",
                masks="{masks}",
                classes={{_base_.classes}},
            ),
        )
    ),
)
