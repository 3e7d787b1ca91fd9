# Detect+OIM as SeqNet, NAE and OIMNet++ build on it: torchvision's ResNet-50 (stride in the 3x3 convolution, RGB) whose
# batch norms are trained, its anchors of whole pixels and its RoIAlign, the maximum over the cells of an RoI.
_base_ = 'person-search_r50-caffe-c4.py'

# ImageNet weights by address, so that torchvision need not be installed.
pretrained = dict(type='Pretrained', checkpoint='https://download.pytorch.org/models/resnet50-0676ba61.pth')
norm_cfg = dict(type='BN', requires_grad=True)
conv5 = dict(type='MaxPoolResLayer', depth=50, style='pytorch', norm_cfg=norm_cfg, norm_eval=False, init_cfg=pretrained)
# One cell an RoI is left. The published second box regression has a batch norm behind its linear layer, whose scale is
# drawn, too.
pooled = dict(type='BBoxHead', with_avg_pool=True, roi_feat_size=1, in_channels=2048)
small = dict(type='Normal', std=0.01, bias=0)
norm_regression = dict(reg_predictor_cfg=dict(type='BNLinear'), init_cfg=dict(override=dict(name='fc_reg'), **small))
# Norm-aware embedding of two branches, before and after conv5.
norm_aware = dict(
    type='NormAwareReIDHead',
    with_bn=True,
    in_channels=1024 + 2048,
    before_channels=1024,
    loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
    init_cfg=dict(override=[dict(name='fc'), dict(name='bn'), dict(name='before')], **small),
)

model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True),
    backbone=dict(style='pytorch', frozen_stages=0, norm_cfg=norm_cfg, norm_eval=False, init_cfg=pretrained),
    rpn_head=dict(anchor_generator=dict(type='RoundedAnchorGenerator')),
    roi_head=dict(
        shared_head=conv5,
        bbox_roi_extractor=dict(roi_layer=dict(sampling_ratio=2, aligned=False)),
        bbox_head=dict(init_cfg=[], loss_bbox=dict(type='SmoothL1Loss', beta=1.0, loss_weight=10.0), **pooled),
        embed_final_boxes=False,
    ),
)
