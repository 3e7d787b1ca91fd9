# OIMNet++ (Lee et al., ECCV 2022) for testing: Detect+OIM with batch norm behind the embedding and three small anchors.
# Its training (ProtoNorm, LOIM) is not here.
_base_ = 'person-search_r50-torchvision-c4.py'

model = dict(
    rpn_head=dict(anchor_generator=dict(scales=[0.5, 1, 2])),
    roi_head=dict(reid_head=dict(with_bn=True)),
)
