# IRN on one's own images over EfficientNet-Lite0, for a CPU: as resnet50_irn_own-images.py,
# with the settings of efficientnet-lite0_irn_mini-voc.py.
_base_ = [
    "../_base_/datasets/own_images_irn.py",
    "../_base_/models/efficientnet-lite0_irn.py",
]

pipeline = dict(
    label=dict(foreground=0.4, background=0.15, maps="strided"),
    resize=dict(scale=(320, 320)),
    crop=dict(crop_size=(256, 256)),
    pad=dict(size=(256, 256), pad_val=dict(img=(127.5, 127.5, 127.5))),
)
train_dataloader = dict(dataset=dict(pipeline=pipeline))
optim_wrapper = dict(
    _delete_=True, optimizer=dict(type="AdamW", lr=2e-3, weight_decay=0.05)
)
default_hooks = dict(channels_last=dict(type="mmwood.ChannelsLastHook"))
