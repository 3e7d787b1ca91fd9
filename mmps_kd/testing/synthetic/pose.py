"""How a person stands or walks, in three dimensions."""

from dataclasses import dataclass

import numpy as np

from .appearance import Appearance

# Body proportions as fractions of the height.
HIP, SHOULDER, CHIN, CROWN = 0.50, 0.815, 0.865, 1.0
THIGH, SHIN, FOOT = 0.235, 0.235, 0.115
UPPER_ARM, FOREARM = 0.165, 0.145
SHOULDER_WIDTH, HIP_WIDTH, DEPTH = 0.112, 0.052, 0.068  # half widths


@dataclass(frozen=True)
class Pose:
    """Turn of the body and state of its limbs, angles in radians."""

    yaw: float  # 0: towards the camera, pi: away from it, pi / 2: to the right of the image
    phase: float  # of the walk
    stride: float  # 0: standing, 1: long steps
    elbows: tuple[float, float]
    tilt: float  # how steeply the camera looks down


@dataclass(frozen=True)
class Joints:
    """Projected joints: (3,) arrays of x to the right, y down (metres, feet at 0), depth towards the camera."""

    points: dict[str, np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.points[name]


def sample_pose(rng: np.random.Generator, tilt: float) -> Pose:
    """Draw a pose; people more often walk along the camera's view or across it than stand."""
    yaw = float(rng.choice([0, 0, np.pi, np.pi, np.pi / 2, -np.pi / 2]) + rng.normal(0, 0.45))
    stride = float(rng.choice([0.1, rng.uniform(0.5, 1)], p=[0.25, 0.75]))
    bent = rng.random(2) < 0.18
    elbows = np.where(bent, rng.uniform(1.3, 2.1, 2), rng.uniform(0.1, 0.5, 2))
    return Pose(yaw, float(rng.uniform(0, 2 * np.pi)), stride, (float(elbows[0]), float(elbows[1])), tilt)


def pose_joints(pose: Pose, person: Appearance) -> Joints:
    """Joints of a person: pelvis, neck, head; on both sides (l_, r_) hip, knee, ankle, toe, shoulder, elbow, hand."""
    points = {'pelvis': (0, 0, HIP), 'neck': (0, 0.01, CHIN - 0.02), 'head': (0, 0.02, 0.5 * (CHIN + CROWN))}
    for side, sign, elbow in (('l', 1, pose.elbows[0]), ('r', -1, pose.elbows[1])):
        phase = pose.phase + (0 if sign > 0 else np.pi)
        limbs = _leg(sign, phase, pose.stride, person.girth) | _arm(sign, phase, pose.stride, elbow, person.girth)
        points |= {f'{side}_{name}': point for name, point in limbs.items()}
    lowest = min(points['l_ankle'][2], points['r_ankle'][2]) - 0.03
    return Joints({name: _project(np.subtract(p, (0, 0, lowest)) * person.height, pose) for name, p in points.items()})


def _leg(sign: int, phase: float, stride: float, girth: float) -> dict[str, np.ndarray]:
    swing = 0.5 * stride * np.sin(phase)
    bend = 0.06 + 0.85 * stride * max(0.0, np.cos(phase))
    hip = np.array([sign * HIP_WIDTH * girth, 0, HIP])
    knee = hip + THIGH * np.array([0, np.sin(swing), -np.cos(swing)])
    shin = swing - bend
    ankle = knee + SHIN * np.array([0, np.sin(shin), -np.cos(shin)])
    sole = min(shin, 0.1) * 0.8
    toe = ankle + FOOT * np.array([sign * 0.15, np.cos(sole), np.sin(sole)]) - (0, 0, 0.015)
    return {'hip': hip, 'knee': knee, 'ankle': ankle, 'toe': toe}


def _arm(sign: int, phase: float, stride: float, bend: float, girth: float) -> dict[str, np.ndarray]:
    swing = -0.55 * stride * np.sin(phase) if bend < 1 else -0.1
    shoulder = np.array([sign * SHOULDER_WIDTH * girth, 0, SHOULDER - 0.012])
    elbow = shoulder + UPPER_ARM * np.array([sign * 0.16, np.sin(swing), -np.cos(swing)])
    inward = -0.35 if bend > 1 else 0.04
    forearm = swing + bend
    hand = elbow + FOREARM * np.array([sign * inward, np.sin(forearm), -np.cos(forearm)])
    return {'shoulder': shoulder, 'elbow': elbow, 'hand': hand}


def _project(point: np.ndarray, pose: Pose) -> np.ndarray:
    x, y, z = point
    across = x * np.cos(pose.yaw) + y * np.sin(pose.yaw)
    depth = y * np.cos(pose.yaw) - x * np.sin(pose.yaw)
    return np.array([across, -z * np.cos(pose.tilt) + depth * np.sin(pose.tilt), depth])
