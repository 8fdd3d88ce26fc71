# Moved.
_base_ = "../segmentation/deeplabv2_r101_coco14.py"
