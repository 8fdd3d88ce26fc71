# DeepLab-v2 on ResNet-101 on pseudo masks of COCO 2014. Our choice, none is published:
# 100,000 iterations, evaluated once, since val2014 has 40,504 images.
_base_ = [
    "../_base_/models/deeplabv2_r101.py",
    "../_base_/datasets/coco14_segmentation.py",
    "../_base_/schedule_deeplabv2.py",
]

model = dict(decode_head=dict(num_classes=81))
train_cfg = dict(max_iters=100000, val_interval=100000)
