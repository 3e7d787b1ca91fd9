"""Draw training samples as the model gets them: after the pipeline, with their identities."""

import argparse
from pathlib import Path

import numpy as np
from mmdet.registry import DATASETS
from mmdet.structures import DetDataSample
from mmengine.config import DictAction
from mmengine.dataset import worker_init_fn
from mmengine.registry import init_default_scope
from PIL import Image
from torch import Tensor

from mmps_kd.apis.init_model import load_config
from mmps_kd.datasets.dataset_wrappers import check_data_sets
from mmps_kd.errors import UserError, run_tool
from mmps_kd.visualization import draw_ground_truth, in_pixels_of, join_panels


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--out', type=Path, required=True, help='folder to write pictures to')
    parser.add_argument('--num-images', type=int, default=20, help='samples, spread evenly over the training set')
    parser.add_argument('--seed', type=int, default=0, help='of what the pipeline draws')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override settings: key.sub=value ...')
    return parser.parse_args()


def draw_item(item: dict) -> np.ndarray:
    """A sample, or the query beside the gallery image of a pair: (H, W, 3) uint8 RGB."""
    inputs, samples = item['inputs'], item['data_samples']
    if isinstance(samples, DetDataSample):
        return draw_sample(inputs, samples, 'annotated')
    query = samples['query'].new()
    query.gt_instances = query.query_instances
    gallery = draw_sample(inputs['gallery'], samples['gallery'], 'gallery')
    return join_panels([draw_sample(inputs['query'], query, 'query'), gallery])


def draw_sample(inputs: Tensor, sample: DetDataSample, heading: str) -> np.ndarray:
    """One image (3, H, W) in BGR with its people."""
    image = inputs.permute(1, 2, 0).numpy()[..., ::-1]
    return draw_ground_truth(image, in_pixels_of(image, sample).gt_instances, heading)


def main() -> None:
    """Draw."""
    args = parse_args()
    if args.num_images < 1:
        raise UserError(f'--num-images must be at least 1, got {args.num_images}')
    cfg = load_config(args.config, args.cfg_options)
    check_data_sets(cfg)
    init_default_scope(cfg.default_scope)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    args.out.mkdir(parents=True, exist_ok=True)
    indices = np.unique(np.linspace(0, len(dataset) - 1, args.num_images).round().astype(int)).tolist()
    worker_init_fn(0, 0, 0, args.seed)
    for index in indices:
        name = Path(dataset.get_data_info(index)['img_name']).stem
        Image.fromarray(draw_item(dataset[index])).save(args.out / f'{index:05d}_{name}.png')
    print(f'drew {len(indices)} of {len(dataset)} training samples in {args.out}')


if __name__ == '__main__':
    run_tool(main)
