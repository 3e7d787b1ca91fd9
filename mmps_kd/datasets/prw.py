"""PRW: data set, readers of its files, and its search protocol."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmdet.registry import DATASETS

from mmps_kd.errors import UserError
from mmps_kd.structures import UNLABELLED, Annotations, EvaluationSet, SearchProtocol, corners, run_offsets
from mmps_kd.structures.annotations import name_in_folder, validate_image_names

from .base_person_search import BasePersonSearchDataset, require_truth
from .cache import cached
from .custom_json import read_coco_json
from .matlab import load_mat, name_damaged_file, require_file, to_names

_IMAGE_SUFFIX = re.compile(r'\.(jpe?g|png|bmp|tiff?|webp|p[gp]m)$', re.IGNORECASE)
_BOX_KEYS = ('box_new', 'anno_file', 'anno_previous')


@DATASETS.register_module()
class PRWDataset(BasePersonSearchDataset):
    """PRW (Zheng et al., CVPR 2017): 11,816 frames of six cameras, 932 identities.

    ``data_root`` is the folder that holds ``frames``, ``annotations``, ``frame_train.mat``, ``frame_test.mat`` and
    ``query_info.txt``. The training frames hold 483 labelled identities, though papers say 482.

    Args:
        query_info: Query list, relative to ``data_root`` or absolute.
        cross_camera: Leave the frames of the query's own camera out of its gallery.
        on_absent_query: What to do with queries whose person is nowhere in their gallery: 'error', or 'skip' to leave
            them out; a warning counts them.
        data_prefix: The image folder.
        **kwargs: As for :class:`BasePersonSearchDataset`.
    """

    METAINFO = dict(dataset_name='PRW', **BasePersonSearchDataset.METAINFO)

    def __init__(
        self,
        query_info: str = 'query_info.txt',
        cross_camera: bool = False,
        on_absent_query: str = 'error',
        data_prefix: dict | None = None,
        **kwargs,
    ) -> None:
        self.query_info = query_info
        self.cross_camera = cross_camera
        self.on_absent_query = on_absent_query
        super().__init__(data_prefix=data_prefix or dict(img='frames'), **kwargs)

    def load_train(self) -> tuple[Annotations, None]:
        """Annotations of the training frames."""
        return read_prw(self.root, 'train'), None

    def load_test(self) -> tuple[Annotations, EvaluationSet]:
        """Annotations of the test frames, and the protocol."""
        annotations = read_prw(self.root, 'test')
        query_info = self.root / self.query_info
        return annotations, _make_evaluation(annotations, query_info, self.cross_camera, self.on_absent_query)


def load_prw_evaluation(
    data_root: str | Path,
    query_info: str | Path | None = None,
    cross_camera: bool = False,
    on_absent_query: str = 'error',
) -> EvaluationSet:
    """What PRW is evaluated on; needs no images.

    Args:
        data_root: PRW's folder; or a folder that holds ``prw_test_pid.json`` in place of the MATLAB files.
        query_info: Query list in the form of the official one, such as that of PRW-mini. By default
            ``query_info.txt`` in ``data_root``.
        cross_camera: Leave the frames of the query's own camera out of its gallery.
        on_absent_query: 'error', or 'skip' to leave queries out whose person is nowhere in their gallery.

    Returns:
        One protocol, ``prw`` or ``prw_cross_camera``, and the boxes of all test frames. Queries are matched to boxes by
        identity alone: some query boxes differ from their annotation by a pixel.

    Raises:
        UserError: If a file is missing or damaged, or a query's person is nowhere in its gallery.
    """
    root = Path(data_root)
    query_info = Path(query_info or root / 'query_info.txt')
    return _make_evaluation(read_prw(root, 'test'), query_info, cross_camera, on_absent_query)


def _make_evaluation(
    annotations: Annotations, query_info: Path, cross_camera: bool, on_absent_query: str
) -> EvaluationSet:
    queries = read_queries(query_info)
    name, cameras = ('prw_cross_camera', _camera_of(annotations.image_names)) if cross_camera else ('prw', None)
    protocol = full_gallery_protocol(annotations, *queries, str(query_info), cameras, on_absent_query)
    return EvaluationSet({name: protocol}, annotations.ground_truth(), len(queries[0]) - protocol.num_queries)


def read_prw(root: Path, split: str) -> Annotations:
    """Annotations of a split.

    Where ``frame_{split}.mat`` is missing and ``prw_{split}_pid.json`` exists, the JSON is read.

    Args:
        root: PRW's folder.
        split: 'train' or 'test'.

    Raises:
        UserError: If a file is missing or damaged.
    """
    frame_list, json_file = root / f'frame_{split}.mat', root / f'prw_{split}_pid.json'
    if json_file.is_file() and not frame_list.is_file():
        return read_coco_json(json_file)[0]
    names = load_mat(frame_list, f'img_index_{split}')
    with name_damaged_file(frame_list):
        frames = [f'{name}.jpg' for name in to_names(names).tolist()]
    validate_image_names(frames, str(frame_list))
    frames = [name_in_folder(frame) for frame in frames]
    files = [root / 'annotations' / f'{frame}.mat' for frame in frames]
    for file in files:
        require_file(file)
    arrays = cached(f'prw-{frame_list.stem}', [frame_list, *files], lambda: _parse_frames(files))
    return Annotations(np.array(frames), **arrays).validate(str(frame_list))


def _parse_frames(files: list[Path]) -> dict[str, np.ndarray]:
    frames = [_parse_frame(file) for file in files]
    rows = np.concatenate(frames)  # (M, 5)
    # Negative positions are set to 0 before the size is added, and corners are truncated to whole pixels, as the public
    # codebases do (SeqNet, AlignPS): evaluation has to use the same boxes.
    boxes = np.trunc(corners(rows[:, 1:].clip(0)))
    # Unlabelled is -2 in the files.
    pids = np.where(rows[:, 0] < 0, UNLABELLED, rows[:, 0]).astype(np.int64)
    return dict(num_boxes=np.array([len(frame) for frame in frames]), boxes=boxes, pids=pids)


def _parse_frame(file: Path) -> np.ndarray:
    """Rows (n, 5) float64 of a frame: pid, x, y, w, h."""
    rows = load_mat(file, *_BOX_KEYS)
    with name_damaged_file(file):
        return np.zeros((0, 5)) if rows is None else rows.astype(np.float64).reshape(len(rows), 5)


def read_queries(path: Path, image_folder: Path | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read a query list: lines ``pid x y w h frame``; ``.jpg`` is added to a name without an image's extension.

    Args:
        path: The list.
        image_folder: Where the frames are, see :func:`~mmps_kd.structures.name_in_folder`; None: not known.

    Returns:
        Frame names with extension (Q,) str, boxes (Q, 4) float64 as x1, y1, x2, y2, and identities (Q,) int64.
        The corners are truncated to whole pixels inside the frame, as the public codebases read them.

    Raises:
        UserError: If the file is missing or a line is of another form.
    """
    require_file(path)
    with name_damaged_file(path):
        # Not splitlines: names may contain any space but the line feed.
        lines = path.read_text(encoding='utf-8').split('\n')
    queries = []
    for number, line in enumerate(lines, 1):
        line = line.strip(' \t\r')
        if not line.strip():
            continue
        try:
            pid, *box, frame = line.split(maxsplit=5)
            x, y, w, h = map(float, box)
            queries.append((frame if _IMAGE_SUFFIX.search(frame) else f'{frame}.jpg', [x, y, w, h], int(pid)))
        except ValueError:
            raise UserError(f'{path}, line {number}: expected "pid x y w h frame", got "{line}"') from None
    if not queries:
        raise UserError(f'{path} lists no query; each line reads: pid x y w h frame')
    frames, boxes, pids = zip(*queries, strict=True)
    validate_image_names(frames, str(path))
    frames = [name_in_folder(frame, image_folder) for frame in frames]
    return np.array(frames), np.trunc(corners(np.array(boxes))).clip(0), np.array(pids)


def _camera_of(frames: np.ndarray) -> np.ndarray:
    """Camera numbers (N,) int64 of frames named like ``c1s3_016471.jpg``."""
    matches = [re.match(r'c(\d+)', Path(frame).name) for frame in frames]
    if None in matches:
        frame = frames[matches.index(None)]
        raise UserError(f'{frame}: the name has no camera number; PRW frames are named like c1s3_016471.jpg')
    return np.array([int(match[1]) for match in matches])


def full_gallery_protocol(
    annotations: Annotations,
    query_images: np.ndarray,
    query_boxes: np.ndarray,
    query_pids: np.ndarray,
    source: str,
    cameras: np.ndarray | None = None,
    on_absent_query: str = 'error',
    galleries: Sequence[Sequence[str] | None] | None = None,
) -> SearchProtocol:
    """Search each query in all images but its own, or in those that it names.

    The true box in a gallery image is the first one of the query's identity, as in the public codebases: one true
    box an image.

    Args:
        annotations: All boxes of the N test images.
        query_images: (Q,) str.
        query_boxes: (Q, 4) float64, x1, y1, x2, y2.
        query_pids: (Q,) int64.
        source: Where the queries come from, for messages.
        cameras: (N,), camera of each image: images of the query's own camera are left out. None: kept.
        on_absent_query: 'error', or 'skip' to leave queries out whose person is nowhere in their gallery.
        galleries: Names of the images that each query is searched in, its own left out; None, of a query or of all: in
            all images.

    Raises:
        UserError: If a query's image is not among the test images, or its person is nowhere in its gallery, with
            'skip' if that holds for all queries.
    """
    if on_absent_query not in ('error', 'skip'):
        raise UserError(f"on_absent_query must be 'error' or 'skip', got {on_absent_query!r}")
    annotations = annotations.without_empty_boxes()
    image_of_box = annotations.image_of_box
    index = {name: i for i, name in enumerate(annotations.image_names.tolist())}
    named, galleries, truths = galleries or [None] * len(query_images), [], []
    for name, pid, images in zip(query_images.tolist(), query_pids, named, strict=True):
        if name not in index:
            raise UserError(f'{source}: query image {name} is not among the test images; correct the query list')
        own = index[name]
        in_gallery = np.ones(len(index), dtype=bool) if cameras is None else cameras != cameras[own]
        if images is not None:
            listed = np.zeros(len(index), dtype=bool)
            listed[[index[image] for image in images]] = True
            in_gallery &= listed
        in_gallery[own] = False
        galleries.append(np.flatnonzero(in_gallery).astype(np.int32))
        # An unlabelled query has no true box: unlabelled boxes may be of any person.
        boxes = np.flatnonzero((annotations.pids == pid) & (annotations.pids >= 0))
        images, first = np.unique(image_of_box[boxes], return_index=True)
        truths.append(boxes[first][in_gallery[images]])
    if on_absent_query == 'skip':
        found = np.flatnonzero([len(boxes) for boxes in truths])
        if not len(found):
            raise UserError(f'{source}: no query is left: the persons of all {len(truths)} are absent from the gallery')
        query_images, query_boxes, query_pids = query_images[found], query_boxes[found], query_pids[found]
        galleries, truths = [galleries[query] for query in found], [truths[query] for query in found]
    true_boxes = np.concatenate(truths)
    protocol = SearchProtocol(
        query_images=query_images,
        query_boxes=query_boxes,
        query_pids=query_pids,
        gallery_images=annotations.image_names,
        offsets=run_offsets(np.array([len(gallery) for gallery in galleries])),
        entries=np.concatenate(galleries),
        truth_offsets=run_offsets(np.array([len(boxes) for boxes in truths])),
        truth_images=image_of_box[true_boxes].astype(np.int32),
        truth_boxes=annotations.boxes[true_boxes],
    )
    skip = "on_absent_query='skip' of the dataset, --skip-absent-queries of the tools"
    require_truth(protocol, source, f'leave them out of the query list, or with {skip}')
    return protocol
