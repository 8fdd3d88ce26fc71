# Task A on mini_voc: plain cross-entropy, at its end the Fisher information.
_base_ = "../segmentation/deeplabv2_efficientnet-lite0_mini-voc.py"

default_hooks = dict(ewc=dict(type="mmwood.EWCHook", mode="consolidate", images=300))
