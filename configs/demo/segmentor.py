# The demo's segmentation network, task A: plain cross-entropy on the pseudo masks, and at
# its end the Fisher information. After `make demo`:
# tools/test.py THIS work_dirs/demo/segmentor_a_wood/iter_150.pth
_base_ = "../_base_/demo_segmentor.py"

iterations = 150
train_cfg = dict(max_iters=iterations, val_interval=iterations)
default_hooks = dict(
    checkpoint=dict(interval=iterations),
    ewc=dict(type="mmwood.EWCHook", mode="consolidate", images=100),
)
