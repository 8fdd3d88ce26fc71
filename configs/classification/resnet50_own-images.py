# ResNet-50 at output stride 16 on one's own images; README.md shows how to use it.
_base_ = [
    "../_base_/models/resnet50_cam.py",
    "../_base_/datasets/own_images.py",
    "../_base_/schedule_5e.py",
    "../_base_/default_runtime.py",
]

val_cfg = None
