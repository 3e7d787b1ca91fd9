"""A posed body in canvas pixels, and the shapes that it is painted with."""

from dataclasses import dataclass

import numpy as np

from .appearance import Appearance
from .canvas import Paint, capsule
from .cloth import Cloth
from .pose import HIP, SHOULDER, Joints, Pose, pose_joints


@dataclass(frozen=True)
class Part:
    """A shape of the body; those nearer to the camera (larger depth, in metres) are painted later."""

    depth: float
    outline: np.ndarray
    paint: Paint
    roundness: float


class Figure:
    """A person in a pose, in pixels of the canvas that it is painted on."""

    def __init__(self, person: Appearance, pose: Pose, pixels_per_metre: float, corner: tuple[float, float]) -> None:
        self.person, self.pose = person, pose
        self.scale = pixels_per_metre
        self.unit = person.height * pixels_per_metre  # pixels of one body height
        self.corner = np.array(corner)
        self.joints: Joints = pose_joints(pose, person)
        self.facing = np.cos(pose.yaw)  # 1: front seen, -1: back seen
        neck = self.at('neck')
        self.cloth = Cloth(person, neck[0], self.level(SHOULDER), self.unit, self.facing, np.sin(pose.yaw))

    def at(self, name: str) -> np.ndarray:
        """A joint (2,) in canvas pixels."""
        return self.joints[name][:2] * self.scale + self.corner

    def depth(self, *names: str) -> float:
        """Mean depth of joints."""
        return float(np.mean([self.joints[name][2] for name in names]))

    def level(self, height: float) -> float:
        """Canvas row of a height given as a fraction of the body's."""
        return self.at('pelvis')[1] - (height - HIP) * self.unit * np.cos(self.pose.tilt)

    def half_width(self, side: float, depth: float) -> float:
        """Half width in pixels of a body section with these half axes in body heights, as turned."""
        return self.unit * np.hypot(side * np.cos(self.pose.yaw), depth * np.sin(self.pose.yaw)) * self.person.girth

    def limb(self, start: str, end: str, radii: tuple[float, float], paint: Paint, nearer: float = 0) -> Part:
        """A tapering limb between two joints, radii in body heights."""
        first, last = (radius * self.unit * self.person.girth for radius in radii)
        outline = capsule(self.at(start), self.at(end), first, last)
        return Part(self.depth(start, end) + nearer, outline, paint, max(first, last))
