# IRN on mini_voc, over the frozen backbone of the classifier whose maps it spreads. Its
# maps are those of W-OoD, at four scales with flips:
#   tools/test.py configs/wood/efficientnet-lite0_wood_mini-voc.py \
#       work_dirs/efficientnet-lite0_wood_mini-voc/epoch_1.pth --tta \
#       --work-dir work_dirs/cam_mini-voc \
#       --cfg-options default_hooks.pseudo_label.save_scores=[strided,full]
#   tools/make_affinity_labels.py configs/irn/efficientnet-lite0_irn_mini-voc.py
_base_ = [
    "../_base_/datasets/mini_voc_irn.py",
    "../_base_/models/efficientnet-lite0_irn.py",
]

classifier = "work_dirs/efficientnet-lite0_wood_mini-voc/epoch_1.pth"
scores = dict(
    score_dir="work_dirs/cam_mini-voc/pseudo_labels", score_checkpoint=classifier
)
model = dict(backbone=dict(init_cfg=dict(checkpoint=classifier)))

pipeline = dict(
    label=dict(
        foreground=0.4,
        background=0.15,
        folder="work_dirs/affinity_labels_mini-voc",
    ),
    resize=dict(scale=(320, 320)),
    crop=dict(crop_size=(256, 256)),
    pad=dict(size=(256, 256), pad_val=dict(img=(127.5, 127.5, 127.5))),
)
train_dataloader = dict(dataset=dict(**scores, pipeline=pipeline))
test_dataloader = dict(batch_size=4, dataset=dict(**scores))
# A short training: the published one, SGD, takes five times the steps.
optim_wrapper = dict(
    _delete_=True, optimizer=dict(type="AdamW", lr=2e-3, weight_decay=0.05)
)
default_hooks = dict(channels_last=dict(type="mmwood.ChannelsLastHook"))
