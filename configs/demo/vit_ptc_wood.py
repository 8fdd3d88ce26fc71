# W-OoD on the demo's vision transformer with patch token contrast: continued from its
# last epoch, as in configs/demo/wood.py.
_base_ = "./vit_ptc.py"

epochs = 8
train_cfg = dict(max_epochs=epochs, val_interval=epochs)
optim_wrapper = dict(optimizer=dict(lr=2.5e-4))
load_from = "work_dirs/vit_ptc/epoch_30.pth"
model = dict(head=dict(type="mmwood.WOoDHead"))
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
