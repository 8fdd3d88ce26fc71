# DeepLab-v2 on ResNet-101, trained on the pseudo masks of W-OoD and IRN, PASCAL VOC 2012:
# 30,000 iterations of ten crops of 321 pixels. Test with --tta; README.md. The protocol of
# the program that papers name: deeplabv2_r101_voc_deeplab-pytorch.py.
_base_ = [
    "../_base_/models/deeplabv2_r101.py",
    "../_base_/datasets/voc12aug_segmentation.py",
    "../_base_/schedule_deeplabv2.py",
]
