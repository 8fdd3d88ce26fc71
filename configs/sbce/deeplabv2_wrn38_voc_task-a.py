# Task A: plain cross-entropy, and at its end the Fisher information of all images.
_base_ = "../segmentation/deeplabv2_wrn38_voc.py"

default_hooks = dict(ewc=dict(type="mmwood.EWCHook", mode="consolidate"))
