# W-OoD on DeiT-S with patch token contrast: 4 + 4 images a batch, from the classifier
# without OoD images. Nothing of it is published: K and tau are those of
# configs/wood/resnet50_wood_voc12aug.py, and so is lambda, which belongs to ResNet-50's
# features: compare loss_ood_distance and loss_cls in the log.
_base_ = "../classification/deit-small_ptc_voc12aug.py"

model = dict(head=dict(type="mmwood.WOoDHead"))
train_dataloader = dict(
    batch_size=8,
    sampler=dict(
        _delete_=True, type="mmwood.OoDRatioSampler", in_per_batch=4, ood_per_batch=4
    ),
    dataset=dict(
        _delete_=True,
        type="mmwood.OoDMixDataset",
        in_distribution={{_base_.train_dataloader.dataset}},
        ood=dict(type="mmwood.OoDDataset", ann_file="data/ood/ood.csv"),
        pipeline={{_base_.train_pipeline}},
    ),
)
default_hooks = dict(
    # Both kinds of images at VOC's long side.
    ood_clusters=dict(type="mmwood.OoDClusterHook", clusters=50, ood_size=500)
)
load_from = "work_dirs/deit-small_ptc_voc12aug/epoch_8.pth"
