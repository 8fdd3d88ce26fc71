# IRN as published, on PASCAL VOC 2012: ResNet-50 of the classifier, three epochs at crop
# 512 and batch 32. First the maps of all of trainaug, then their labels:
#   tools/test.py configs/classification/resnet50_voc12aug.py \
#       work_dirs/resnet50_voc12aug/epoch_5.pth --tta --work-dir work_dirs/cam_voc12aug \
#       --cfg-options default_hooks.pseudo_label.save_scores=[strided,full] \
#       test_dataloader.dataset.ann_file=ImageSets/Segmentation/trainaug.txt \
#       test_dataloader.dataset.data_prefix.seg_map_path=SegmentationClassAug
#   tools/make_affinity_labels.py configs/irn/resnet50_irn_voc12aug.py
# W-OoD's maps: its checkpoint for `classifier`; its program sets
# train_pipeline's background to 0.15. With AdvCAM it sets model.test_cfg.cam_power=1.5
# and default_hooks.pseudo_label.threshold=0.22.
_base_ = [
    "../_base_/models/resnet50_irn.py",
    "../_base_/datasets/voc12aug.py",
    "../_base_/schedule_irn.py",
    "../_base_/default_runtime.py",
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

# The mean of the preprocessor, in the order blue, green, red.
mean = (103.53, 116.28, 123.675)
train_pipeline = [
    dict(type="mmwood.LoadImage"),
    dict(
        type="mmwood.AffinityLabel",
        foreground=0.30,
        background=0.05,
        refine=dict(method="crf"),
        folder="work_dirs/affinity_labels_voc12aug",
    ),
    # VOC's long side is 500.
    dict(
        type="RandomResize",
        scale=(500, 500),
        ratio_range=(0.5, 1.5),
        keep_ratio=True,
        backend="pillow",
        interpolation="bicubic",
    ),
    dict(type="RandomFlip", prob=0.5),
    dict(type="mmseg.RandomCrop", crop_size=(512, 512)),
    dict(type="Pad", size=(512, 512), pad_val=dict(img=mean, seg=255)),
    dict(type="PackInputs", algorithm_keys=["gt_seg_map"]),
]
train_dataloader = dict(batch_size=32, dataset=dict(**scores, pipeline=train_pipeline))
test_dataloader = dict(dataset=dict(**scores, pipeline={{_base_.irn_pipeline}}))
test_evaluator = [dict(type="mmwood.SeedMetric", threshold=0.25)]
val_dataloader = None
val_evaluator = None
tta_model = None
# The classifier's: lr 0.1 at momentum 1e-4, which the released program runs with.
optim_wrapper = dict(optimizer=dict(lr=0.1, momentum=1e-4))
default_hooks = dict(
    displacement_mean=dict(type="mmwood.DisplacementMeanHook"),
    pseudo_label=dict(threshold=0.25),
    visualization=dict(threshold=0.25),
)
