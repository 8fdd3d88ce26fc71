# The demo's W-OoD: the classifier continued, 16 + 16 images a batch.
_base_ = "./plain.py"

# The published weight, 0.007, is for ResNet-50's features. These are shorter; of 0.007,
# 0.07, 0.3 and 1, one run each, 0.3 gave the best seeds.
model = dict(head=dict(type="mmwood.WOoDHead", distance_weight=0.3))
train_dataloader = dict(
    batch_size=32,
    sampler=dict(_delete_=True, type="mmwood.OoDRatioSampler"),
    dataset=dict(
        _delete_=True,
        type="mmwood.OoDMixDataset",
        in_distribution={{_base_.train_dataloader.dataset}},
        ood=dict(
            type="mmwood.OoDDataset",
            ann_file="work_dirs/demo/mine.csv",
            # Nobody needs to review them: they were drawn without objects.
            states=["unseen"],
        ),
        pipeline={{_base_.train_pipeline}},
    ),
)
default_hooks = dict(ood_clusters=dict(type="mmwood.OoDClusterHook", clusters=10))
