"""What must hold for every protocol."""

import numpy as np

from mmps_kd.errors import UserError
from mmps_kd.structures import SearchProtocol


def require_truth(protocol: SearchProtocol, source: str, advice: str = 'leave them out of the query list') -> None:
    """Raise :class:`UserError` if a query's person is nowhere in its gallery: its AP would be 0 / 0.

    Args:
        protocol: The protocol to check.
        source: Where it comes from, for the message.
        advice: What to do, for the message.
    """
    absent = np.flatnonzero(np.diff(protocol.truth_offsets) == 0)
    if len(absent):
        query = absent[0]
        pid = protocol.query_pids[query]
        raise UserError(
            f'{source}: query absent from the gallery: {len(absent)} of {protocol.num_queries} queries have no true '
            f'box there, first query {query} (pid {pid} in {protocol.query_images[query]})'
            f'{", who is unlabelled" if pid < 0 else ""}; {advice}'
        )
