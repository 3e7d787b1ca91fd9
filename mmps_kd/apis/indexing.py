"""Filling a gallery: one process, or many that each take a share of the files and write by themselves."""

from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import replace
from itertools import groupby, islice

from mmcv.transforms import Compose
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from mmps_kd.datasets.image_files import stored_boxes
from mmps_kd.gallery import Gallery, GalleryImage, Writer

from .inferencer import SearchModel, prepare
from .inputs import Sources, read_sources
from .results import Skipped

FILES = 50_000
"""Files whose stamps are compared with the gallery at a time."""


def index_images(
    model: SearchModel,
    sources: Sources,
    gallery: Gallery,
    *,
    share: tuple[int, int] = (0, 1),
    batch_size: int = 1,
    num_workers: int = 0,
    camera_of: Callable[[str], str] = lambda file: '',
    video_start: float = 0.0,
    commit_seconds: float = 30,
    on_commit: Callable[[list[str]], None] = lambda names: None,
) -> list[Skipped]:
    """Run the images that a gallery lacks, and add them.

    Images are decoded and prepared in worker processes. A batch is added when it has 10,000 detections or is
    ``commit_seconds`` old; a process that is killed loses this batch alone. Of several processes each takes every
    n-th file, a video as a whole.

    Args:
        model: Runs the images with ``gallery.score_thr``.
        sources: Images and videos; arrays are left out.
        gallery: Where to.
        share: Rank of this process, and number of processes.
        batch_size: Images of one size that are run at a time.
        num_workers: Processes that decode; 0: this one does.
        camera_of: Gives the name of the camera of a file.
        video_start: Time of the first frame of each video, in seconds.
        commit_seconds: See above.
        on_commit: Called with the names of the images that were added, once they are in the gallery.

    Returns:
        The images that could not be read.
    """
    rank, world = share
    model.set_score_thr(gallery.score_thr)
    skipped: list[Skipped] = []
    with Writer(gallery, seconds=commit_seconds, on_commit=on_commit) as writer:
        for start in range(0, len(sources.files), FILES):
            part = sources.part(slice(start + (rank - start) % world, start + FILES, world))
            stamps = part.stamps()
            absent = set(gallery.missing(stamps))
            # A frame that is not in stamps, of a video with a wrong header, is run.
            dataset = PreparedImages(part, stamps.keys() - absent, model.pipeline, video_start)
            # Not by fork: the engine has threads. A fork server and its workers would outlive a process that is killed.
            context = 'spawn' if num_workers else None
            loader = DataLoader(
                dataset, None, num_workers=num_workers, collate_fn=as_is, multiprocessing_context=context
            )
            for batch in alike(loader, skipped, batch_size):
                found = model.detect_prepared([image['sample'] for image in batch])
                for image, people in zip(batch, found, strict=True):
                    boxes = stored_boxes(people.boxes, image['orientation'], image['shape'])
                    camera = camera_of(image['file'])
                    people = replace(people, boxes=boxes)
                    writer.add(GalleryImage(image['name'], image['stamp'], people, camera, image['time']))
    return skipped


def as_is(item: object) -> object:
    """Leave a sample of the ``DataLoader`` as it is."""
    return item


def alike(loader: Iterable[dict | Skipped], skipped: list[Skipped], batch_size: int) -> Iterator[list[dict]]:
    """Join up to ``batch_size`` images of one shape that follow each other; the others go to ``skipped``."""

    def images() -> Iterator[dict]:
        for item in loader:
            if isinstance(item, Skipped):
                skipped.append(item)
            else:
                yield item

    for _, same_shape in groupby(images(), lambda image: image['shape']):
        while batch := list(islice(same_shape, batch_size)):
            yield batch


class PreparedImages(IterableDataset):
    """The images of some sources as the model takes them, read by the workers of a ``DataLoader``.

    Args:
        sources: Images and videos. A worker takes every n-th file.
        known: Names of images to leave out.
        pipeline: For images in memory.
        video_start: Time of a video's first frame, in seconds.
    """

    def __init__(self, sources: Sources, known: Set[str], pipeline: Compose, video_start: float) -> None:
        self.sources, self.known, self.pipeline, self.video_start = sources, known, pipeline, video_start

    def __iter__(self) -> Iterator[dict | Skipped]:
        worker = get_worker_info()
        files = slice(None) if worker is None else slice(worker.id, None, worker.num_workers)
        for source in self.sources.part(files):
            if source.name in self.known:
                continue
            skipped: list[Skipped] = []
            for _, image in read_sources([source], skipped):
                yield dict(
                    name=source.name,
                    stamp=source.stamp,
                    file=source.file,
                    time=source.time(self.video_start),
                    orientation=source.orientation,
                    shape=image.shape[:2],
                    sample=prepare(self.pipeline, image),
                )
            yield from skipped
