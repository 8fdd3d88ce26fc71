# EfficientNet-Lite0 at output stride 16 on one's own images, for a CPU;
# docs/own_images.md.
_base_ = [
    "../_base_/models/efficientnet-lite0_cam.py",
    "../_base_/datasets/own_images.py",
    "../_base_/schedule_5e.py",
    "../_base_/default_runtime.py",
]

val_cfg = None
# Faster on a CPU.
default_hooks = dict(channels_last=dict(type="mmwood.ChannelsLastHook"))
