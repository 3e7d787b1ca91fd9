"""Replace random images of a gallery, and print their names when they are there: URI ENGINE WRITER BATCHES.

A row's box says which write it belongs to, and how many rows that has: image, writer, batch, count.
"""

import random
import sys

import numpy as np

from mmps_kd.gallery import Detections, Gallery, GalleryImage

IMAGES = 30


def make_image(number, writer, batch):
    count = 1 + (number + writer) % 4  # the two writers differ, so that a mixture shows
    boxes = np.tile(np.float32([number, writer, batch, count]), (count, 1))
    return GalleryImage(str(number), 's', Detections(boxes, np.ones(count, np.float32), np.eye(count, 8, dtype='f')))


def main():
    uri, engine, writer, batches = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    gallery, rng = Gallery(uri, 'model', 8, engine=engine), random.Random()
    for batch in range(batches):
        numbers = rng.sample(range(IMAGES), 6)
        gallery.add([make_image(number, writer, batch) for number in numbers])
        print(*numbers, flush=True)
        if batch % 10 == 9:
            gallery.optimize()
    print('done', flush=True)


if __name__ == '__main__':
    main()
