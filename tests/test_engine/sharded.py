"""Parts for the tests of sharded training on a machine without a GPU."""

import torch
from mmengine.model.wrappers import MMFullyShardedDataParallel
from mmengine.registry import MODEL_WRAPPERS


@MODEL_WRAPPERS.register_module()
class CPUShardedDataParallel(MMFullyShardedDataParallel):
    """On the CPU, where MMEngine's strategy names a GPU."""

    def __init__(self, device_id: int, **kwargs) -> None:
        super().__init__(device_id=torch.device('cpu'), **kwargs)
