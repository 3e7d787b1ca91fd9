"""Check of a data set's folder before training: annotations, every image, every box, and the official numbers."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.registry import DATASETS
from PIL import Image
from tqdm import tqdm

from mmps_kd.errors import UserError
from mmps_kd.structures import Annotations, SearchProtocol, near_files

from .cuhk_sysu import gallery_sizes_in, read_pool, read_train
from .image_files import DamagedImageError, decode_image, read_orientation, read_sizes

IMAGES, IDENTITIES, QUERIES = 'images', 'identities', 'queries'
TURNED = 'EXIF says to turn it: read as stored'
_USUAL_MODES = ('RGB', 'P')


@dataclass(frozen=True)
class Finding:
    """One thing about one file.

    Attributes:
        split: 'train', 'test' or 'both'.
        what: Kind of finding: the same words for the same kind.
        file: The image as the annotations name it, or the annotation file.
        detail: What exactly; may be empty.
        serious: True for a problem, which has to be fixed; False for a note on what is handled.
    """

    split: str
    what: str
    file: str
    detail: str = ''
    serious: bool = True


@dataclass
class FolderReport:
    """Result of a check.

    Attributes:
        counts: (split, what) to a number.
        findings: Problems and notes.
    """

    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def problems(self) -> list[Finding]:
        """What has to be fixed."""
        return [finding for finding in self.findings if finding.serious]


@dataclass(frozen=True)
class Layout:
    """A kind of data set.

    Attributes:
        dataset: Its class in the registry.
        test_options: Further arguments of the class for the test split, from the root.
        official: (split, what) to the number in the official data set.
        shared_identities: Training identities that appear in test images, from root, training and test annotations.
    """

    dataset: str
    test_options: Callable[[Path], dict[str, Any]]
    shared_identities: Callable[[Path, Annotations, Annotations], np.ndarray]
    official: dict[tuple[str, str], int] = field(default_factory=dict)


def _shared_pids(root: Path, train: Annotations, test: Annotations) -> np.ndarray:
    pids = np.intersect1d(train.pids, test.pids)
    return pids[pids >= 0]


def _shared_names(root: Path, train: Annotations, test: Annotations) -> np.ndarray:
    """CUHK-SYSU's test identities are numbered by query: compare the images of Train.mat with the pool instead."""
    names, pids, images, _ = read_train(root)
    return names[np.unique(pids[np.isin(images, read_pool(root))])]


# CUHK-SYSU: Xiao et al., CVPR 2017. PRW: Zheng et al., CVPR 2017; papers say 482 identities, its files hold 483.
LAYOUTS = {
    'cuhk-sysu': Layout(
        'CUHKSYSUDataset',
        lambda root: dict(gallery_sizes=gallery_sizes_in(root) or [100]),
        _shared_names,
        {('train', IMAGES): 11206, ('test', IMAGES): 6978, ('train', IDENTITIES): 5532, ('test', QUERIES): 2900},
    ),
    'prw': Layout(
        'PRWDataset',
        lambda root: {},
        _shared_pids,
        {('train', IMAGES): 5704, ('test', IMAGES): 6112, ('train', IDENTITIES): 483, ('test', QUERIES): 2057},
    ),
    'custom': Layout('CustomPersonSearchDataset', lambda root: {}, _shared_pids),
}


def check_folder(layout: Layout, root: Path, jobs: int, options: dict[str, dict[str, Any]]) -> FolderReport:
    """Check annotations and images of both splits; a problem does not stop the check.

    Args:
        layout: The kind of data set.
        root: Its folder.
        jobs: Number of threads that decode images.
        options: Further arguments of the dataset class, for each split to check.

    Raises:
        UserError: If ``root`` is no folder.
    """
    if not root.is_dir():
        raise UserError(f'data set {root}: no such folder')
    report, splits = FolderReport(), {}
    for split, more in options.items():
        cfg = dict(type=layout.dataset, data_root=str(root), split=split, lazy_init=True)
        dataset = DATASETS.build({**cfg, **(layout.test_options(root) if split == 'test' else {}), **more})
        try:
            annotations, found = dataset.load_train() if split == 'train' else dataset.load_test()
        except UserError as error:
            what = 'annotations cannot be used'
            report.findings += [Finding(split, what, str(root), message) for message in error.messages]
            continue
        report.findings += [Finding(split, note, str(root), serious=False) for note in annotations.notes]
        splits[split] = annotations
        persons = annotations.of_boxes(~annotations.ignored)
        labelled = persons.pids[persons.pids >= 0]
        counts = {
            IMAGES: len(persons.image_names),
            'boxes': len(persons.boxes),
            'labelled boxes': len(labelled),
            IDENTITIES: len(np.unique(labelled)),
        }
        protocol = found.main if split == 'test' else None
        if protocol is not None:
            counts[QUERIES] = protocol.num_queries
            if found.num_absent:
                what = 'queries left out: their person is nowhere in the gallery'
                report.findings.append(Finding(split, what, str(root), f'{found.num_absent} queries', serious=False))
        report.counts.update({(split, what): number for what, number in counts.items()})
        report.findings += _check_identities(split, persons)
        report.findings += _check_files(split, Path(dataset.data_prefix['img']), annotations, protocol, jobs)
    if splits.keys() >= {'train', 'test'}:
        train, test = splits['train'], splits['test']
        for name in np.intersect1d(train.image_names, test.image_names).tolist():
            report.findings.append(Finding('both', 'image in training and test', name))
        for identity in layout.shared_identities(root, train, test).tolist():
            what = 'identity in training and test'
            report.findings.append(Finding('both', what, f'identity {identity}', serious=False))
    return report


def _check_identities(split: str, persons: Annotations) -> Iterator[Finding]:
    """What the annotations alone show."""
    num_labelled = np.bincount(persons.image_of_box[persons.pids >= 0], minlength=len(persons.num_boxes))
    for what, mask in (
        ('nobody in it', persons.num_boxes == 0),
        ('only unlabelled people in it', (num_labelled == 0) & (persons.num_boxes > 0)),
    ):
        for name in persons.image_names[mask].tolist():
            yield Finding(split, what, name, serious=False)
    for pid in persons.single_image_pids().tolist():
        image = persons.image_names[persons.image_of_box[persons.pids == pid][0]]
        yield Finding(split, 'identity seen in one image only', image, f'identity {pid}', serious=False)


def _check_files(
    split: str, folder: Path, annotations: Annotations, protocol: SearchProtocol | None, jobs: int
) -> Iterator[Finding]:
    """Decode every image (in threads, with a progress bar), then compare the boxes with the images that are fine."""
    names = annotations.image_names
    exists = np.array([(folder / name).is_file() for name in names.tolist()], dtype=bool)
    missing = names[~exists].tolist()
    for name, near in zip(missing, near_files(folder, missing), strict=True):
        yield Finding(split, 'missing image', name, f'not in {folder}{near}')
    annotations, readable = annotations.of_images(exists), []
    pool = ThreadPoolExecutor(jobs)  # OpenCV and Pillow release the global interpreter lock
    try:
        names = annotations.image_names.tolist()
        results = pool.map(partial(check_image, split, folder), names)
        for findings in tqdm(results, total=len(names), desc=split, unit='image', disable=None):
            yield from findings
            readable.append(not any(finding.serious for finding in findings))
    finally:
        pool.shutdown(cancel_futures=True)
    yield from _check_boxes(split, folder, annotations.of_images(np.array(readable, dtype=bool)), protocol)


def check_image(split: str, folder: Path, name: str) -> tuple[Finding, ...]:
    """All findings about one image file."""
    try:
        decode_image(folder / name)
        return tuple(Finding(split, what, name, detail, False) for what, detail in _find_conversions(folder / name))
    except DamagedImageError as error:
        return (Finding(split, 'damaged image', name, str(error)),)


def _find_conversions(path: Path) -> Iterator[tuple[str, str]]:
    """What is converted when the image is loaded.

    Raises:
        DamagedImageError: If a part of the image is missing for Pillow, which is stricter than some releases of OpenCV.
    """
    try:
        with Image.open(path) as image:
            frames = getattr(image, 'n_frames', 1)
            image.load()
    except Image.UnidentifiedImageError:
        return  # OpenCV reads it
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DamagedImageError(f'{path} cannot be read as an image: {error}') from None
    if image.mode not in _USUAL_MODES:
        yield 'not RGB of 8 bits: converted', f'mode {image.mode}'
    if frames > 1:
        yield 'animated: the first picture is taken', f'{frames} pictures'
    if (orientation := read_orientation(path)) != 1:
        yield TURNED, f'orientation {orientation}'


def _check_boxes(
    split: str, folder: Path, annotations: Annotations, protocol: SearchProtocol | None
) -> Iterator[Finding]:
    """Compare the boxes, and for a test set the query boxes, with their images; all images are readable."""
    try:
        annotations = annotations.with_sizes(read_sizes(folder, annotations.image_names.tolist()))
    except UserError as error:
        for message in error.messages:
            yield Finding(split, 'size differs', str(folder), message)
        return
    kinds = (
        ('box of zero width or height: dropped', True),
        ('box outside its image: dropped', True),
        ('box hangs over the edge: cut', False),
    )
    for (what, serious), mask in zip(kinds, annotations.find_box_faults(), strict=True):
        for box in np.flatnonzero(mask):
            name = annotations.image_names[annotations.image_of_box[box]]
            yield Finding(split, what, name, f'{annotations.boxes[box].tolist()} (x1, y1, x2, y2)', serious)
    if protocol is not None:
        # Queries in images that are missing or damaged have been reported with these.
        queries = np.flatnonzero(np.isin(protocol.query_images, annotations.image_names))
        outside = annotations.find_outside(protocol.query_images[queries], protocol.query_boxes[queries])
        for query in queries[outside]:
            detail = f'query {query}: {protocol.query_boxes[query].tolist()} (x1, y1, x2, y2)'
            yield Finding(split, 'query box empty or outside its image', protocol.query_images[query], detail)
