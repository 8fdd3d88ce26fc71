# A small DeepLab-v2 on the pseudo masks of one's own images, for a CPU;
# docs/own_images.md.
_base_ = [
    "../_base_/models/deeplabv2_efficientnet-lite0.py",
    "../_base_/datasets/own_images_segmentation.py",
    "../_base_/schedule_deeplabv2.py",
]

train_cfg = dict(max_iters=500)
val_cfg = None
optim_wrapper = dict(optimizer=dict(lr=0.002))
default_hooks = dict(channels_last=dict(type="mmwood.ChannelsLastHook"))
