"""What must hold for every protocol."""

import numpy as np

from mmps_kd.errors import UserError
from mmps_kd.evaluation.functional.structures import SearchProtocol


def require_truth(protocol: SearchProtocol, source: str) -> None:
    """Raise :class:`UserError` if a query's person is nowhere in its gallery: its AP would be 0 / 0.

    Args:
        protocol: The protocol to check.
        source: Where it comes from, for the message.
    """
    absent = np.flatnonzero(np.diff(protocol.truth_offsets) == 0)
    if len(absent):
        query = absent[0]
        raise UserError(
            f'{source}: query absent from the gallery: {len(absent)} of {protocol.num_queries} queries have no true '
            f'box there, first query {query} (pid {protocol.query_pids[query]} in {protocol.query_images[query]}); '
            'leave them out of the query list'
        )
