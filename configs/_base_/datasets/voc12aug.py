# PASCAL VOC 2012, the 10,582 images of trainaug (SBD), at data/VOCdevkit/VOC2012.
# Tags are those of the published experiments: every object of the image's annotation,
# difficult ones included. Seeds are evaluated on the 1,464 images of train. To make
# labels for all of trainaug: --cfg-options
# test_dataloader.dataset.ann_file=ImageSets/Segmentation/trainaug.txt
# test_dataloader.dataset.data_prefix.seg_map_path=SegmentationClassAug
_base_ = ["./voc_classes.py", "../image_level_published.py"]

dataset = dict(
    type="mmwood.ImageLevelDataset",
    label_source="voc_xml",
    classes={{_base_.classes}},
    data_root="data/VOCdevkit/VOC2012",
)
folders = dict(img_path="JPEGImages", xml_path="Annotations")
evaluation_folders = dict(**folders, seg_map_path="SegmentationClass")

train_dataloader = dict(
    dataset=dict(
        **dataset,
        ann_file="ImageSets/Segmentation/trainaug.txt",
        data_prefix=folders,
    )
)
val_dataloader = dict(
    dataset=dict(
        **dataset,
        ann_file="ImageSets/Segmentation/val.txt",
        data_prefix=evaluation_folders,
    )
)
test_dataloader = dict(
    dataset=dict(
        **dataset,
        ann_file="ImageSets/Segmentation/train.txt",
        data_prefix=evaluation_folders,
    )
)
