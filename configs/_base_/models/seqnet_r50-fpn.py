# SeqNet on a feature pyramid: each RoI takes its features from the level that fits its size, two heads of fully
# connected layers take the place of the two conv5. Not published: sampling and RPN are those of the pyramid's student.
_base_ = ['person-search_r50-fpn.py', '../seqnet.py']

seq_roi_head = _base_.seq_roi_head
seq_roi_head.second_bbox_head.update(type='Shared2FCBBoxHead', in_channels=256, fc_out_channels=1024, roi_feat_size=7)
second_training = _base_.second_training
second_training.sampler.update(num=512, pos_fraction=0.25)

model = dict(
    roi_head=seq_roi_head,
    train_cfg=dict(rcnn=dict(second=second_training)),
    test_cfg=dict(rcnn=dict(nms=dict(type='nms', iou_threshold=0.4), second=_base_.second_test)),
)
