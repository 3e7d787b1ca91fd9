# Supervision by a specialised detector (Chen et al., NIPS 2017): what is compared where, and the weights.
# Classification is mu * hard + (1 - mu) * soft with mu = 0.5: hard_weight is the factor of the student's own loss.
detector_distillation = [
    # The hint's weight is not in the paper; measured on synthetic data, 1 is too weak to be felt.
    dict(at='backbone.0', loss=dict(type='FeatureImitationLoss', loss_weight=30.0)),
    dict(
        at='rpn.cls',
        hard_weight=0.5,
        loss=dict(type='LogitDistillationLoss', background_weight=1.5, loss_weight=0.5),
    ),
    dict(at='rpn.bbox', loss=dict(type='BoundedRegressionLoss', loss_weight=0.5)),
    dict(
        at='roi.cls',
        hard_weight=0.5,
        loss=dict(type='LogitDistillationLoss', background_weight=1.5, loss_weight=0.5),
    ),
    dict(at='roi.bbox', loss=dict(type='BoundedRegressionLoss', loss_weight=0.5)),
]
