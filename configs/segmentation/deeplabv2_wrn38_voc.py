# DeepLab-v2's head on Wide ResNet-38, on data and with the schedule of
# deeplabv2_r101_voc.py. Test with --tta; README.md.
_base_ = [
    "../_base_/models/deeplabv2_wrn38.py",
    "../_base_/datasets/voc12aug_segmentation.py",
    "../_base_/schedule_deeplabv2.py",
]
