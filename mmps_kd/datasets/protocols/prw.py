"""PRW: every query is searched in all test frames but its own."""

from pathlib import Path

from mmps_kd.datasets.annotations import Annotations
from mmps_kd.datasets.annotations.prw import camera_of, read_prw, read_queries
from mmps_kd.structures import EvaluationSet

from .full_gallery import full_gallery_protocol


def load_prw_evaluation(
    data_root: str | Path,
    query_info: str | Path | None = None,
    cross_camera: bool = False,
    on_absent_query: str = 'error',
) -> EvaluationSet:
    """What PRW is evaluated on.

    Args:
        data_root: PRW's folder; or a folder that holds ``prw_test_pid.json`` in place of the MATLAB files.
        query_info: Query list in the form of the official one, such as that of PRW-mini. By default
            ``query_info.txt`` in ``data_root``.
        cross_camera: Leave the frames of the query's own camera out of its gallery.
        on_absent_query: 'error', or 'skip' to leave queries out whose person is nowhere in their gallery.

    Returns:
        One protocol, ``prw`` or ``prw_cross_camera``, and everybody in the test frames. Queries are matched to
        people by identity alone: some query boxes lie a pixel beside their annotation.

    Raises:
        UserError: If a file is missing or damaged, or a query's person is nowhere in its gallery.
    """
    root = Path(data_root)
    query_info = Path(query_info or root / 'query_info.txt')
    return prw_evaluation(read_prw(root, 'test'), query_info, cross_camera, on_absent_query)


def prw_evaluation(
    people: Annotations, query_info: Path, cross_camera: bool, on_absent_query: str = 'error'
) -> EvaluationSet:
    """As :func:`load_prw_evaluation`, from the test split as read."""
    cameras = camera_of(people.image_names) if cross_camera else None
    name = 'prw_cross_camera' if cross_camera else 'prw'
    queries = read_queries(query_info)
    protocol = full_gallery_protocol(
        people, *queries, source=str(query_info), cameras=cameras, on_absent_query=on_absent_query
    )
    return EvaluationSet({name: protocol}, people.ground_truth(), len(queries[0]) - protocol.num_queries)
