"""A count that checkpoints keep."""

import torch
from torch import Tensor, nn


class Counter(nn.Module):
    """An integer on the host, so that reading it does not wait for a GPU; checkpoints keep it.

    Attributes:
        value: The count, 0 at the start.
    """

    def __init__(self) -> None:
        super().__init__()
        self.value = 0

    def _save_to_state_dict(self, destination: dict[str, Tensor], prefix: str, keep_vars: bool) -> None:
        destination[prefix + 'value'] = torch.tensor(self.value)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args) -> None:
        self.value = int(state_dict.pop(prefix + 'value', self.value))
