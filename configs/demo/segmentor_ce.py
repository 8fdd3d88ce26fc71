# Continued from task A with plain cross-entropy, to compare with.
_base_ = "../_base_/demo_segmentor.py"

iterations = 75
train_cfg = dict(max_iters=iterations, val_interval=iterations)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
default_hooks = dict(checkpoint=dict(interval=iterations))
load_from = "work_dirs/demo/segmentor_a_wood/iter_150.pth"
