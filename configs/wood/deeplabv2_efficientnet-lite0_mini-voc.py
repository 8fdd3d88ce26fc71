# Now in configs/segmentation/; this path stays for those who name it.
_base_ = "../segmentation/deeplabv2_efficientnet-lite0_mini-voc.py"
