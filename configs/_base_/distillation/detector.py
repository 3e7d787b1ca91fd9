# Supervision by a specialised detector (Chen et al., NIPS 2017): what is compared where, and the weights.
# Classification is mu * hard + (1 - mu) * soft with mu = 0.5: the hard losses' weights stand in hard_rpn and hard_roi.
detector_distillation = [
    dict(at='backbone.0', loss=dict(type='FeatureImitationLoss', loss_weight=1.0)),
    dict(at='rpn.cls', loss=dict(type='LogitDistillationLoss', background_weight=1.5, loss_weight=0.5)),
    dict(at='rpn.bbox', loss=dict(type='BoundedRegressionLoss', loss_weight=0.5)),
    dict(at='roi.cls', loss=dict(type='LogitDistillationLoss', background_weight=1.5, loss_weight=0.5)),
    dict(at='roi.bbox', loss=dict(type='BoundedRegressionLoss', loss_weight=0.5)),
]
hard_rpn = dict(loss_cls=dict(loss_weight=0.5))
hard_roi = dict(bbox_head=dict(loss_cls=dict(loss_weight=0.5)))
