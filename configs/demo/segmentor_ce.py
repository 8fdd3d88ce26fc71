# Gone on with from task A with plain cross-entropy, to compare with.
_base_ = "./segmentor.py"

train_cfg = dict(max_iters=200, val_interval=200)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
default_hooks = dict(checkpoint=dict(interval=200))
custom_hooks = []
load_from = "work_dirs/demo/segmentor/iter_400.pth"
