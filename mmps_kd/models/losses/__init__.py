"""Losses of person search and of its distillation."""

from .bounded_regression_loss import BoundedRegressionLoss
from .embedding_relation_loss import EmbeddingRelationLoss
from .feature_imitation_loss import FeatureImitationLoss
from .id_feature_loss import IDFeatureLoss
from .logit_distillation_loss import LogitDistillationLoss
from .oim_loss import OIMLoss

__all__ = [
    'BoundedRegressionLoss',
    'EmbeddingRelationLoss',
    'FeatureImitationLoss',
    'IDFeatureLoss',
    'LogitDistillationLoss',
    'OIMLoss',
]
