# Moved.
_base_ = "../segmentation/deeplabv2_r101_voc.py"
