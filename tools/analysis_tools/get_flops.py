"""Count parameters and multiply-adds of the model that a config trains."""

import argparse
import copy

import torch
from mmdet.registry import MODELS
from mmengine.config import DictAction
from mmengine.registry import init_default_scope
from torch.utils.flop_counter import FlopCounterMode

from mmps_kd.apis.init_model import load_config, plain_student, require_search_model
from mmps_kd.deployment import SearchGraph
from mmps_kd.errors import run_tool
from mmps_kd.models.detectors import PersonSearchRCNN


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file, or name of one that comes with the package')
    parser.add_argument(
        '--shape', type=int, nargs=2, default=(900, 1500), metavar=('HEIGHT', 'WIDTH'), help='of the resized image'
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override settings: key.sub=value ...')
    return parser.parse_args()


def count(model: PersonSearchRCNN, image: torch.Tensor, people: int) -> int:
    """Multiply-adds of convolutions and matrices, for an image with all its proposals and so many detections.

    Args:
        model: Left as it is.
        image: (H, W, 3) uint8.
        people: Number of detections, 0 or more.
    """
    model = copy.deepcopy(model)
    model.rpn_head.test_cfg.nms.iou_threshold = 1
    model.roi_head.test_cfg.update(score_thr=-1, max_per_img=people)
    with FlopCounterMode(display=False) as counter:
        SearchGraph(model)(image)
    # It counts a multiplication and an addition as two.
    return counter.get_total_flops() // 2


def main() -> None:
    """Count."""
    args = parse_args()
    cfg = load_config(args.config, args.cfg_options)
    require_search_model(cfg)
    init_default_scope('mmdet')
    model = MODELS.build(plain_student(cfg.model))
    height, width = args.shape
    image = torch.zeros(height, width, 3, dtype=torch.uint8)
    nobody = count(model, image, people=0)
    person = count(model, image, people=1) - nobody
    # What the graph runs on the region that it always adds is the cost of a person.
    alone = nobody - person
    proposals = cfg.model.test_cfg.rpn.max_per_img
    print(f'parameters     {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M')
    print(f'multiply-adds  {alone / 1e9:.2f} G for {width}x{height} pixels with {proposals} proposals')
    print(f'               {person / 1e9:.4f} G more for each person that is found')


if __name__ == '__main__':
    run_tool(main)
