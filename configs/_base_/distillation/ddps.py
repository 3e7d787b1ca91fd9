# DDPS (IEEE TMM 2025): features in and around boxes, logits of the box head, similarities of embeddings; weights of
# its public configs. Its decoupled logits equal KL with two classes. It compares the people that NMS leaves of all
# proposals; here it is those whose RoIs are sampled.
_base_ = 'fgd.py'

ddps_distillation = [
    *_base_.fgd_distillation,
    dict(at='roi.cls', loss=dict(type='LogitDistillationLoss', mode='kl', temperature=4.0, loss_weight=1.0)),
    dict(at='roi.embedding', table='teacher', loss=dict(type='CorrelationLoss', loss_weight=0.01)),
]
