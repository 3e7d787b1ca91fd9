"""Losses of person search and of its distillation."""

from .bounded_regression_loss import BoundedRegressionLoss
from .correlation_loss import CorrelationLoss
from .cwd_loss import CWDLoss
from .embedding_relation_loss import EmbeddingRelationLoss
from .feature_imitation_loss import FeatureImitationLoss
from .fgd_loss import FGDLoss
from .id_feature_loss import IDFeatureLoss
from .logit_distillation_loss import LogitDistillationLoss
from .mgd_loss import MGDLoss
from .oim_loss import OIMLoss
from .pkd_loss import PKDLoss

__all__ = [
    'BoundedRegressionLoss',
    'CWDLoss',
    'CorrelationLoss',
    'EmbeddingRelationLoss',
    'FGDLoss',
    'FeatureImitationLoss',
    'IDFeatureLoss',
    'LogitDistillationLoss',
    'MGDLoss',
    'OIMLoss',
    'PKDLoss',
]
