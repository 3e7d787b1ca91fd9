"""How large each synthetic dataset is."""

from dataclasses import dataclass

from mmps_kd.errors import UserError


@dataclass(frozen=True)
class SplitSize:
    """Size of one split; each identity is seen in ``appearances`` (fewest, most) different images."""

    images: int
    identities: int
    appearances: tuple[int, int]


@dataclass(frozen=True)
class DatasetSize:
    """Size of a dataset: picture size in pixels, both splits, queries, (fewest, most) passers-by an image."""

    width: int
    height: int
    train: SplitSize
    test: SplitSize
    queries: int
    passers_by: tuple[int, int]


# `full` has the counts of the real datasets: images, identities, training identities and queries.
SIZES = {
    ('cuhk-sysu', 'tiny'): DatasetSize(160, 120, SplitSize(12, 6, (3, 4)), SplitSize(12, 5, (3, 4)), 5, (0, 1)),
    ('cuhk-sysu', 'mini'): DatasetSize(400, 300, SplitSize(600, 200, (10, 12)), SplitSize(160, 60, (4, 6)), 60, (1, 2)),
    ('cuhk-sysu', 'full'): DatasetSize(
        480, 360, SplitSize(11206, 5532, (2, 4)), SplitSize(6978, 2900, (2, 4)), 2900, (1, 4)
    ),
    ('prw', 'tiny'): DatasetSize(160, 120, SplitSize(12, 6, (3, 4)), SplitSize(12, 5, (3, 4)), 8, (0, 1)),
    ('prw', 'mini'): DatasetSize(400, 300, SplitSize(240, 80, (5, 7)), SplitSize(160, 60, (4, 6)), 90, (1, 2)),
    ('prw', 'full'): DatasetSize(
        480, 360, SplitSize(5704, 483, (20, 42)), SplitSize(6112, 449, (30, 54)), 2057, (0, 2)
    ),
}


def dataset_size(layout: str, size: str) -> DatasetSize:
    """Look a size up.

    Raises:
        UserError: If there is no such layout or size.
    """
    if (layout, size) not in SIZES:
        known = ', '.join(' '.join(key) for key in SIZES)
        raise UserError(f'no synthetic dataset {layout!r} {size!r}: choose one of {known}')
    return SIZES[layout, size]
