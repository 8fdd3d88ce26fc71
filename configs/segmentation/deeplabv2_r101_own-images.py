# DeepLab-v2 on ResNet-101, on the pseudo masks of one's own images; docs/own_images.md.
_base_ = [
    "../_base_/models/deeplabv2_r101.py",
    "../_base_/datasets/own_images_segmentation.py",
    "../_base_/schedule_deeplabv2.py",
]

val_cfg = None
