# EfficientNet-Lite0 at output stride 16 on mini_voc: 20 minutes on two CPU cores.
_base_ = [
    "../_base_/models/efficientnet-lite0_cam.py",
    "../_base_/datasets/mini_voc.py",
    "../_base_/schedule_5e.py",
    "../_base_/default_runtime.py",
]

# Faster on a CPU.
default_hooks = dict(channels_last=dict(type="mmwood.ChannelsLastHook"))
