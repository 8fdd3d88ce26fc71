# Task A on mini_voc: plain cross-entropy, at its end the Fisher information.
_base_ = "../wood/deeplabv2_efficientnet-lite0_mini-voc.py"

custom_hooks = [dict(type="mmwood.EWCHook", mode="consolidate", images=300)]
