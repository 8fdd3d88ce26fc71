# What IRNs share: the published schedule (three epochs, ten times the rate for the
# displacements, nothing validated), hooks, and the training pipeline, whose steps have
# names: train_dataloader.dataset.pipeline.label.folder. Its sizes are those of VOC, whose
# long side is 500.
_base_ = ["./schedule_5e.py", "./default_runtime.py"]

train_cfg = dict(max_epochs=3)
val_cfg = None
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(_delete_=True, displacement=dict(lr_mult=10.0)))
)
auto_scale_lr = dict(base_batch_size=32)
default_hooks = dict(
    displacement_mean=dict(type="mmwood.DisplacementMeanHook"),
    pseudo_label=dict(threshold=0.25),
    visualization=dict(threshold=0.25),
)
irn_train_pipeline = dict(
    # In place of the data set's, which is a list.
    _delete_=True,
    load=dict(type="mmwood.LoadImage"),
    label=dict(
        type="mmwood.AffinityLabel",
        foreground=0.30,
        background=0.05,
        refine=dict(method="crf"),
    ),
    resize=dict(
        type="RandomResize", scale=(500, 500), ratio_range=(0.5, 1.5), keep_ratio=True
    ),
    flip=dict(type="RandomFlip", prob=0.5),
    crop=dict(type="mmseg.RandomCrop", crop_size=(512, 512)),
    pad=dict(
        type="Pad",
        size=(512, 512),
        # The mean of the preprocessor, in the order blue, green, red.
        pad_val=dict(img=(103.53, 116.28, 123.675), seg=255),
    ),
    pack=dict(type="PackInputs", algorithm_keys=["gt_seg_map"]),
)
