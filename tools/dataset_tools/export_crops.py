"""Write the labelled people of a training set as crops, one folder an identity, for any re-id model to embed."""

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import mmcv
from mmengine.config import DictAction
from mmengine.registry import init_default_scope
from tqdm import tqdm

from mmps_kd.apis.init_model import load_config
from mmps_kd.apis.lut import build_train_set, images_with_identities
from mmps_kd.datasets.base_person_search import BasePersonSearchDataset
from mmps_kd.datasets.dataset_wrappers import check_data_sets
from mmps_kd.datasets.image_files import decode_image, read_orientation, turn_upright
from mmps_kd.errors import UserError, run_tool
from mmps_kd.models.distillers.reid_network import crop
from mmps_kd.structures import UNLABELLED

INDEX = 'index.csv'


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config with the training set')
    parser.add_argument('out', type=Path, help='folder to write: new or empty; index.csv there lists the crops')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override settings: key.sub=value ...')
    return parser.parse_args()


def write_crops(dataset: BasePersonSearchDataset, out: Path) -> Iterator[list]:
    """Write image after image, people upright; yields the index's row of each crop, its box in pixels as stored."""
    identities = dataset.metainfo['identities']
    for i in tqdm(images_with_identities(dataset), desc='cropping', unit='image', disable=None):
        info = dataset.get_data_info(i)
        image, orientation = decode_image(info['img_path']), read_orientation(info['img_path'])
        stem = Path(info['img_name']).with_suffix('').as_posix().replace('/', '_')
        for k, person in enumerate(info['instances']):
            if person['pid'] == UNLABELLED:
                continue
            identity = identities[person['pid']]
            file = f'{identity}/{stem}_{k}.jpg'
            mmcv.imwrite(turn_upright(crop(image, person['bbox']), orientation), str(out / file))
            yield [file, identity, info['img_name'], *person['bbox']]


def main() -> None:
    """Write crops and index."""
    args = parse_args()
    cfg = load_config(args.config, args.cfg_options)
    check_data_sets(cfg)
    init_default_scope(cfg.default_scope)
    if args.out.exists() and not (args.out.is_dir() and not any(args.out.iterdir())):
        raise UserError(f'{args.out} is there and not an empty folder: name a new folder, or remove it')
    dataset = build_train_set(cfg)
    args.out.mkdir(parents=True, exist_ok=True)
    with open(args.out / INDEX, 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['file', 'identity', 'image', 'x1', 'y1', 'x2', 'y2'])
        writer.writerows(write_crops(dataset, args.out))
    print(f'{args.out}: crops of {len(dataset.metainfo["identities"])} identities, listed in {INDEX}')


if __name__ == '__main__':
    run_tool(main)
