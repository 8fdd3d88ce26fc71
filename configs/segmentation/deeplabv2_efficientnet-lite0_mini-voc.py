# A small DeepLab-v2 on mini_voc's pseudo masks (W-OoD and IRN), plain cross-entropy.
_base_ = [
    "../_base_/models/deeplabv2_efficientnet-lite0.py",
    "../_base_/datasets/mini_voc_segmentation.py",
    "../_base_/schedule_deeplabv2.py",
]

train_cfg = dict(max_iters=500, val_interval=500)
optim_wrapper = dict(optimizer=dict(lr=0.002))
default_hooks = dict(
    checkpoint=dict(interval=250),
    channels_last=dict(type="mmwood.ChannelsLastHook"),
)
