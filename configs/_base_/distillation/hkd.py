# HKD (ACM MM 2023): logits of the box head, embeddings and their similarities, of a teacher that identifies too. Its
# weights are not published; these are defaults of this project, and not tuned.
hkd_distillation = [
    dict(at='roi.cls', loss=dict(type='LogitDistillationLoss', mode='kl', temperature=2.0, loss_weight=1.0)),
    dict(at='roi.embedding', table='teacher', loss=dict(type='IDFeatureLoss', distance='cosine', loss_weight=1.0)),
    dict(
        at='roi.embedding',
        name='similarity',
        table='teacher',
        loss=dict(type='EmbeddingRelationLoss', temperature=0.1, loss_weight=1.0),
    ),
]
