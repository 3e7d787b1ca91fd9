"""Rendering a whole dataset: settings, parallel work, and what is already there."""

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
from tqdm import tqdm

from mmps_kd.errors import UserError

from . import cuhk_sysu, prw
from .appearance import sample_appearance
from .plan import IDENTITY, IMAGE, SITE, ImagePlan, ImageRecord, plan_images, stream
from .scene import render_scene
from .sizes import dataset_size

LAYOUTS = {'cuhk-sysu': cuhk_sysu, 'prw': prw}
_DONE, _STARTED = 'synthetic.json', 'synthetic.partial.json'
_JPEG_QUALITY = (78, 96)


@dataclass(frozen=True)
class Settings:
    """What determines every byte of a dataset."""

    layout: str
    size: str
    seed: int = 0

    @property
    def stamp(self) -> dict:
        """The settings and the version of the layout's writer, as they stand in the dataset's folder."""
        return dict(vars(self), version=LAYOUTS[self.layout].VERSION)


def write_dataset(root: Path, layout: str, size: str, seed: int = 0, jobs: int = 1) -> None:
    """Render a dataset and write it in an official layout; at once if ``root`` holds it already.

    Args:
        root: Folder to write: new, empty, or holding an interrupted attempt of the same dataset.
        layout: ``'cuhk-sysu'`` or ``'prw'``.
        size: ``'tiny'``, ``'mini'`` or ``'full'``.
        seed: Seed of everything drawn; the files do not depend on ``jobs``.
        jobs: Number of processes that render.

    Raises:
        UserError: If there is no such layout, size, seed or number of jobs, or ``root`` holds anything else.
    """
    config, settings = dataset_size(layout, size), Settings(layout, size, seed)
    if seed < 0 or jobs < 1:
        raise UserError(f'seed {seed}, jobs {jobs}: the seed must be at least 0 and jobs at least 1')
    if is_complete(root, settings):
        return
    _claim(root, settings)
    module = LAYOUTS[layout]
    plans = plan_images(config, module.image_names(config, seed), seed)
    (root / module.IMAGE_FOLDER).mkdir(parents=True, exist_ok=True)
    records = _render_all(partial(_render, root, settings), plans, jobs)
    module.write_annotations(root, records, config, seed)
    counts = dict(settings.stamp, images=len(records), boxes=sum(len(record.boxes) for record in records))
    (root / _STARTED).write_text(json.dumps(counts))
    (root / _STARTED).rename(root / _DONE)


def is_complete(root: Path, settings: Settings) -> bool:
    """Whether ``root`` holds exactly this dataset, written to its end."""
    return _holds(root / _DONE, settings)


def summary(root: Path) -> str:
    """One line on a complete dataset."""
    counts = json.loads((root / _DONE).read_text())
    return '{layout} {size}, seed {seed}: {images} images with {boxes} people in {root}'.format(root=root, **counts)


def _holds(path: Path, settings: Settings) -> bool:
    return path.is_file() and json.loads(path.read_text()).items() >= settings.stamp.items()


def _claim(root: Path, settings: Settings) -> None:
    """Mark ``root`` as this dataset's, unless something else lies there."""
    if root.exists() and not (root.is_dir() and (not any(root.iterdir()) or _holds(root / _STARTED, settings))):
        raise UserError(
            f'{root} is there and does not hold this very dataset, by its settings or its version: '
            'name a new folder, or remove it'
        )
    root.mkdir(parents=True, exist_ok=True)
    (root / _STARTED).write_text(json.dumps(settings.stamp))


def _render_all(render: partial, plans: list[ImagePlan], jobs: int) -> list[ImageRecord]:
    bar = partial(tqdm, total=len(plans), desc='rendering', unit='image', disable=None)
    with _single_threaded_opencv():
        if jobs == 1:
            return list(bar(map(render, plans)))
        # Forked workers start at once; spawned ones would each import the whole of MMDetection first.
        with ProcessPoolExecutor(jobs, multiprocessing.get_context('fork')) as pool:
            return list(bar(pool.map(render, plans, chunksize=4)))


@contextmanager
def _single_threaded_opencv():
    """OpenCV's threads do not survive a fork, and do not pay for pictures of this size."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def _render(root: Path, settings: Settings, plan: ImagePlan) -> ImageRecord:
    module, size = LAYOUTS[settings.layout], dataset_size(settings.layout, settings.size)
    rng = stream(settings.seed, IMAGE, plan.index)
    site = module.site_of(plan.name)
    site_rng = rng.spawn(1)[0] if site is None else stream(settings.seed, SITE, site)
    people = [(identity, sample_appearance(stream(settings.seed, IDENTITY, identity))) for identity in plan.identities]
    passers_by = int(rng.integers(*size.passers_by, endpoint=True))
    image, boxes = render_scene(rng, site_rng, people, passers_by, (size.width, size.height))
    quality = int(rng.integers(*_JPEG_QUALITY))
    path = root / module.IMAGE_FOLDER / plan.name
    path.write_bytes(cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())
    return ImageRecord(plan.name, plan.split, tuple(boxes))
