# Moved.
_base_ = "../segmentation/deeplabv2_wrn38_coco14.py"
