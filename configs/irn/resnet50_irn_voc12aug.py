# IRN as published, on PASCAL VOC 2012: ResNet-50 of the classifier, three epochs at crop
# 512 and batch 32. First the maps of all of trainaug, then their labels:
#   tools/test.py configs/classification/resnet50_voc12aug.py \
#       work_dirs/resnet50_voc12aug/epoch_5.pth --tta --work-dir work_dirs/cam_voc12aug \
#       --cfg-options default_hooks.pseudo_label.save_scores=[strided,full] \
#       test_dataloader.dataset.ann_file=ImageSets/Segmentation/trainaug.txt \
#       test_dataloader.dataset.data_prefix.seg_map_path=SegmentationClassAug
#   tools/make_affinity_labels.py configs/irn/resnet50_irn_voc12aug.py
# W-OoD's maps: its checkpoint for `classifier`. The labels' 0.30 and 0.05 are IRN's own;
# W-OoD's and AdvCAM's programs have others, which configs/pipelines/ set.
_base_ = [
    "../_base_/models/resnet50_irn.py",
    "../_base_/datasets/voc12aug_irn.py",
]

classifier = "work_dirs/resnet50_voc12aug/epoch_5.pth"
scores = dict(
    score_dir="work_dirs/cam_voc12aug/pseudo_labels", score_checkpoint=classifier
)
model = dict(
    backbone=dict(
        # IRN's program begins with ImageNet's weights instead:
        # init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet50").
        init_cfg=dict(checkpoint=classifier)
    ),
)

pipeline = dict(
    label=dict(folder="work_dirs/affinity_labels_voc12aug"),
    resize=dict(backend="pillow", interpolation="bicubic"),
)
train_dataloader = dict(batch_size=32, dataset=dict(**scores, pipeline=pipeline))
test_dataloader = dict(dataset=dict(**scores))
# The classifier's: lr 0.1 at momentum 1e-4, which the released program runs with.
optim_wrapper = dict(optimizer=dict(lr=0.1, momentum=1e-4))
