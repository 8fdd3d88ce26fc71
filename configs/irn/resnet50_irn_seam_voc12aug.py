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

pipeline = dict(
    label=dict(
        powers=(4, 24),
        refine=dict(bilateral_sxy=80, bilateral_srgb=13),
        folder="work_dirs/affinity_labels_seam_voc12aug",
    )
)
train_dataloader = dict(dataset=dict(**scores, pipeline=pipeline))
test_dataloader = dict(dataset=dict(**scores))
