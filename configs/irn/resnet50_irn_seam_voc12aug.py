# IRN on SEAM's maps, with labels by two strengths of the background, as SEAM makes those
# of its own affinity network; the network is IRN's. First the maps of all of trainaug:
#   tools/test.py configs/seam/wrn38_seam_voc12aug.py \
#       work_dirs/wrn38_seam_voc12aug/epoch_8.pth --tta --work-dir work_dirs/seam_voc12aug \
#       --cfg-options default_hooks.pseudo_label.save_scores=[strided,full] \
#       test_dataloader.dataset.ann_file=ImageSets/Segmentation/trainaug.txt \
#       test_dataloader.dataset.data_prefix.seg_map_path=SegmentationClassAug
#   tools/make_affinity_labels.py configs/irn/resnet50_irn_seam_voc12aug.py
_base_ = "./resnet50_irn_voc12aug.py"

scores = dict(
    score_dir="work_dirs/seam_voc12aug/pseudo_labels",
    score_checkpoint="work_dirs/wrn38_seam_voc12aug/epoch_8.pth",
)
# SEAM's classifier is no ResNet-50.
model = dict(
    backbone=dict(
        init_cfg=dict(checkpoint="torchvision://resnet50", prefix=None),
    )
)

# The mean of the preprocessor, in the order blue, green, red.
mean = (103.53, 116.28, 123.675)
train_pipeline = [
    dict(type="mmwood.LoadImage"),
    dict(
        type="mmwood.AffinityLabel",
        powers=(4, 24),
        refine=dict(method="crf", bilateral_sxy=80, bilateral_srgb=13),
        folder="work_dirs/affinity_labels_seam_voc12aug",
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
train_dataloader = dict(dataset=dict(**scores, pipeline=train_pipeline))
test_dataloader = dict(dataset=dict(**scores))
