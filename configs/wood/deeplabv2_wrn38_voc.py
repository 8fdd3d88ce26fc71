# Now in configs/segmentation/; this path stays for those who name it.
_base_ = "../segmentation/deeplabv2_wrn38_voc.py"
