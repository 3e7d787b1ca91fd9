"""Checking a whole data set."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmps_kd.datasets.annotations import Annotations
from mmps_kd.errors import UserError
from mmps_kd.image_names import near_files
from mmps_kd.structures import SearchProtocol

from .findings import Finding
from .images import inspect_images
from .official import IDENTITIES, IMAGES, QUERIES, Layout
from .people import inspect_boxes, inspect_people, present


@dataclass
class FolderReport:
    """What a check found.

    Attributes:
        counts: (split, what) to a number.
        findings: Everything found, problems and notes.
    """

    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def problems(self) -> list[Finding]:
        """What has to be mended."""
        return [finding for finding in self.findings if finding.serious]


def check_folder(layout: Layout, root: Path, jobs: int, options: dict[str, dict[str, Any]]) -> FolderReport:
    """Check annotations and images of both splits; nothing in them stops it.

    Args:
        layout: The kind of data set.
        root: Its folder.
        jobs: Number of threads that decode images.
        options: Further arguments of the dataset class, for each split to look at.

    Raises:
        UserError: If ``root`` is no folder.
    """
    if not root.is_dir():
        raise UserError(f'data set {root}: no such folder')
    report, splits = FolderReport(), {}
    for split, more in options.items():
        dataset = layout.build(root, split, **more)
        try:
            people, found = dataset.load_train() if split == 'train' else dataset.load_test()
        except UserError as error:
            what = 'annotations cannot be used'
            report.findings += [Finding(split, what, str(root), message) for message in error.messages]
            continue
        report.findings += [Finding(split, note, str(root), serious=False) for note in people.notes]
        splits[split] = people
        protocol = found.main if split == 'test' else None
        if protocol is not None and found.num_absent:
            what = 'queries left out: their person is nowhere in the gallery'
            report.findings.append(Finding(split, what, str(root), f'{found.num_absent} queries', serious=False))
        report.counts.update(_count(split, people, protocol))
        report.findings += _check_split(split, Path(dataset.data_prefix['img']), people, protocol, jobs)
    if splits.keys() >= {'train', 'test'}:
        report.findings += _compare(layout, root, splits['train'], splits['test'])
    return report


def _count(split: str, people: Annotations, protocol: SearchProtocol | None) -> dict[tuple[str, str], int]:
    people = people.of_boxes(~people.ignored)
    numbers = {IMAGES: len(people.image_names), 'boxes': len(people.boxes), 'labelled boxes': (people.pids >= 0).sum()}
    numbers[IDENTITIES] = len(np.unique(people.pids[people.pids >= 0]))
    if protocol is not None:
        numbers[QUERIES] = protocol.num_queries
    return {(split, what): int(number) for what, number in numbers.items()}


def _check_split(
    split: str, folder: Path, people: Annotations, protocol: SearchProtocol | None, jobs: int
) -> Iterator[Finding]:
    yield from inspect_people(split, people)
    there = present(folder, people.image_names)
    missing = people.image_names[~there].tolist()
    for name, near in zip(missing, near_files(folder, missing), strict=True):
        yield Finding(split, 'missing image', name, f'not in {folder}{near}')
    people = people.of_images(there)
    readable = []
    for findings in inspect_images(split, folder, people.image_names.tolist(), jobs):
        yield from findings
        readable.append(not any(finding.serious for finding in findings))
    yield from inspect_boxes(split, folder, people.of_images(np.array(readable, dtype=bool)), protocol)


def _compare(layout: Layout, root: Path, train: Annotations, test: Annotations) -> Iterator[Finding]:
    for name in np.intersect1d(train.image_names, test.image_names).tolist():
        yield Finding('both', 'image in training and test', name)
    for identity in layout.shared(root, train, test).tolist():
        yield Finding('both', 'identity in training and test', f'identity {identity}', serious=False)
