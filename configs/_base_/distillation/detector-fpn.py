# The detector's supervision on a feature pyramid: one hint for each level that the RoI head reads, together as much as
# the one of detector.py. The fifth level, which the RPN alone reads, is the fourth one thinned out.
_base_ = 'detector.py'

pyramid_distillation = [
    *(dict(at=f'neck.{level}', loss=dict(type='FeatureImitationLoss', loss_weight=7.5)) for level in range(4)),
    *_base_.detector_distillation[1:],
]
