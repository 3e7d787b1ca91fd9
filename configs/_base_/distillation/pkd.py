# PKD (Cao et al., NeurIPS 2022) on the levels that the RoI head reads; the weight is the paper's.
pkd_distillation = [dict(at=f'neck.{level}', loss=dict(type='PKDLoss', loss_weight=6.0)) for level in range(4)]
