# SEAM as published on PASCAL VOC 2012: eight epochs of eight crops of 448 pixels.
_base_ = [
    "../_base_/models/wrn38_seam.py",
    "../_base_/datasets/voc12aug.py",
    "../_base_/schedule_5e.py",
    "../_base_/default_runtime.py",
]

train_pipeline = [
    dict(type="mmwood.LoadImage"),
    # The long side becomes 448 to 768.
    dict(
        type="RandomResize",
        scale=(448, 448),
        ratio_range=(1.0, 768 / 448),
        keep_ratio=True,
        backend="pillow",
        interpolation="bicubic",
    ),
    dict(type="RandomFlip", prob=0.5),
    dict(type="ColorJitter", brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1),
    dict(
        type="RandomCrop",
        crop_size=448,
        pad_if_needed=True,
        pad_val=(104, 116, 124),
    ),
    dict(type="PackInputs"),
]
train_dataloader = dict(batch_size=8, dataset=dict(pipeline=train_pipeline))
train_cfg = dict(max_epochs=8)
# The released program passes the weight decay as the momentum here too.
optim_wrapper = dict(
    optimizer=dict(lr=0.01, momentum=5e-4, weight_decay=5e-4),
    paramwise_cfg=dict(custom_keys={"pcm_": dict(lr_mult=10.0)}),
)
auto_scale_lr = dict(base_batch_size=8)
# The released program's score of the background for seeds.
background = 0.26
test_evaluator = dict(metrics=dict(seeds=dict(threshold=background)))
default_hooks = dict(
    pseudo_label=dict(threshold=background), visualization=dict(threshold=background)
)
