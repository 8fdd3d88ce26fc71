# Moved.
_base_ = "../segmentation/deeplabv2_efficientnet-lite0_mini-voc.py"
