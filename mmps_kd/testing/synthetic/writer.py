"""Rendering a whole data set in parallel, unless its folder is complete."""

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
from tqdm import tqdm

from mmps_kd.errors import UserError

from . import cuhk_sysu, prw
from .image import render_image
from .person import OUTFIT, sample_appearance
from .plan import IDENTITY, IMAGE, PLACE, ImagePlan, ImageRecord, dataset_size, generator, plan_images

LAYOUTS = {'cuhk-sysu': cuhk_sysu, 'prw': prw}
_DONE, _STARTED = 'synthetic.json', 'synthetic.partial.json'
_JPEG_QUALITY = (78, 96)


def write_dataset(root: Path, layout: str, size: str, seed: int = 0, jobs: int = 1) -> None:
    """Render a data set and write it in an official layout; at once if ``root`` holds it already.

    Args:
        root: Folder to write: new, empty, or holding an interrupted attempt of the same data set.
        layout: ``'cuhk-sysu'`` or ``'prw'``.
        size: ``'tiny'``, ``'mini'``, ``'hard'`` or ``'full'``.
        seed: Seed of all random choices; the files do not depend on ``jobs``.
        jobs: Number of processes that render.

    Raises:
        UserError: If there is no such layout, size, seed or number of jobs, or ``root`` holds anything else.
    """
    config = dataset_size(layout, size)
    if seed < 0 or jobs < 1:
        raise UserError(f'seed {seed}, jobs {jobs}: the seed must be at least 0 and jobs at least 1')
    if is_complete(root, layout, size, seed):
        return
    settings = dict(layout=layout, size=size, seed=seed, version=LAYOUTS[layout].VERSION)
    if root.exists() and not (root.is_dir() and (not any(root.iterdir()) or _holds(root / _STARTED, settings))):
        raise UserError(
            f'{root} exists and does not hold this data set with these settings in this version: '
            'name a new folder, or remove it'
        )
    module = LAYOUTS[layout]
    (root / module.IMAGE_FOLDER).mkdir(parents=True, exist_ok=True)
    (root / _STARTED).write_text(json.dumps(settings))
    render = partial(_render, root, layout, size, seed)
    plans = plan_images(config, module.image_names(config, seed), seed)
    bar = partial(tqdm, total=len(plans), desc='rendering', unit='image', disable=None)
    # OpenCV's threads do not survive a fork, and are no faster for images of this size.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        if jobs == 1:
            records = list(bar(map(render, plans)))
        else:
            # Forked workers start at once; spawned ones would each import MMDetection first.
            with ProcessPoolExecutor(jobs, multiprocessing.get_context('fork')) as pool:
                records = list(bar(pool.map(render, plans, chunksize=4)))
    finally:
        cv2.setNumThreads(threads)
    module.write_annotations(root, records, config, seed)
    counts = dict(settings, images=len(records), boxes=sum(len(record.boxes) for record in records))
    (root / _STARTED).write_text(json.dumps(counts))
    (root / _STARTED).rename(root / _DONE)


def is_complete(root: Path, layout: str, size: str, seed: int) -> bool:
    """Whether ``root`` holds exactly this data set, written to its end."""
    return _holds(root / _DONE, dict(layout=layout, size=size, seed=seed, version=LAYOUTS[layout].VERSION))


def summary(root: Path) -> str:
    """One line on a complete data set."""
    counts = json.loads((root / _DONE).read_text())
    line = '{layout} {size}, seed {seed}: {images} images with {boxes} annotated persons in {root}'
    return line.format(root=root, **counts)


def _holds(path: Path, settings: dict) -> bool:
    return path.is_file() and json.loads(path.read_text()).items() >= settings.items()


def _render(root: Path, layout: str, size: str, seed: int, plan: ImagePlan) -> ImageRecord:
    """Render and write one image."""
    module, config, rng = LAYOUTS[layout], dataset_size(layout, size), generator(seed, IMAGE, plan.index)
    place = module.place_of(plan.name)
    place_rng = rng.spawn(1)[0] if place is None else generator(seed, PLACE, place)
    persons = []
    for identity in plan.identities:
        person = sample_appearance(generator(seed, IDENTITY, identity))
        model = sample_appearance(generator(seed, IDENTITY, identity - identity % config.alike))
        persons.append((identity, replace(person, **{part: getattr(model, part) for part in OUTFIT})))
    num_unlabelled = int(rng.integers(*config.unlabelled, endpoint=True))
    image, boxes = render_image(rng, place_rng, persons, num_unlabelled, (config.width, config.height), config.largest)
    quality = int(rng.integers(*_JPEG_QUALITY))
    path = root / module.IMAGE_FOLDER / plan.name
    path.write_bytes(cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())
    return ImageRecord(plan.name, plan.split, tuple(boxes))
