# Task A: plain cross-entropy, and at its end the Fisher information of all images.
_base_ = "../wood/deeplabv2_wrn38_coco14.py"

custom_hooks = [dict(type="mmwood.EWCHook", mode="consolidate")]
