"""Parts by which a query guides the detector (QEEPS)."""

from .qrpn import QRPN, QRPNOutputs, mark_queries
from .qsim_net import QSimNet
from .qsse import QSSE
from .shared_rois import detect_shared
from .siamese_resnet import SiameseResNet

__all__ = ['QRPN', 'QRPNOutputs', 'QSSE', 'QSimNet', 'SiameseResNet', 'detect_shared', 'mark_queries']
