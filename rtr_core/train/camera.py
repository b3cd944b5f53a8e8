"""A camera that moves over a still: smooth pans, zooms and turns, random in the generator given.

frames = moved(still, 24, rng, side=128)                  # uint8 [24 128 128 3]
move = Move.random(still, 24, (256, 256), rng)            # one way to go,
source, target = move.film(still), move.film(stylized)    # for two pictures of one size
"""

from dataclasses import dataclass
from math import atan2, cos, exp, log, pi, sin

import cv2
import numpy as np

from ..errors import ShapeError

NEAR, FAR = 0.75, 1.6  # pixels of the still in one of a frame, where the still allows
PAN, ZOOM, TURN = 0.02, 0.012, 0.004  # most per frame: of the frame's side, of the scale, radians
STEEP = 0.25  # radians: the most a picture is turned
STILL_CAMERA = 0.3  # share of moves that do not move


@dataclass(frozen=True)
class Pose:
    """Where a camera is."""

    x: float  # of the middle, in pixels of the still
    y: float
    scale: float  # pixels of the still in one of a frame
    turn: float  # radians

    def toward(self, other: "Pose", share: float) -> "Pose":
        return Pose(
            x=self.x + share * (other.x - self.x),
            y=self.y + share * (other.y - self.y),
            scale=exp(log(self.scale) + share * (log(other.scale) - log(self.scale))),
            turn=self.turn + share * (other.turn - self.turn),
        )

    def inside(self, still: tuple[int, int], size: tuple[int, int]) -> "Pose":
        """The nearest pose that sees nothing outside a still of this height and width."""
        across = size[1] * cos(self.turn) + size[0] * abs(sin(self.turn))
        tall = size[0] * cos(self.turn) + size[1] * abs(sin(self.turn))
        scale = min(self.scale, still[1] / across, still[0] / tall)
        right, down = scale * across / 2, scale * tall / 2
        return Pose(
            x=min(max(self.x, right), still[1] - right),
            y=min(max(self.y, down), still[0] - down),
            scale=scale,
            turn=self.turn,
        )


@dataclass(frozen=True)
class Move:
    """A way from one pose to another, with a hand's sway."""

    first: Pose
    last: Pose
    frames: int
    still: tuple[int, int]  # height and width of what is filmed
    size: tuple[int, int]  # of the frames
    sway: float = 0.0  # pixels of the still
    period: float = 16.0  # frames
    phase: float = 0.0

    @classmethod
    def random(
        cls, still: np.ndarray, frames: int, size: tuple[int, int], rng: np.random.Generator
    ) -> "Move":
        tall, across = still.shape[:2]
        fit = min(across / size[1], tall / size[0])
        near, far = log(min(NEAR, 0.6 * fit)), log(min(FAR, 0.95 * fit))
        moving = frames * (rng.random() >= STILL_CAMERA)
        turn = rng.normal(0, 0.04)
        first = Pose(
            rng.uniform(0, across), rng.uniform(0, tall), exp(rng.uniform(near, far)), turn
        )
        first = first.inside((tall, across), size)
        # towards the wider side, so that a move seldom ends at once at a border
        way = atan2(tall / 2 - first.y, across / 2 - first.x) + rng.normal(0, 0.9)
        pan = moving * rng.uniform(0, PAN) * max(size) * first.scale
        zoom = moving * rng.uniform(-ZOOM, ZOOM) * (rng.random() < 0.6)
        last = Pose(
            x=first.x + pan * cos(way),
            y=first.y + pan * sin(way),
            scale=exp(min(max(log(first.scale) + zoom, near), far)),
            turn=turn + moving * rng.uniform(-TURN, TURN) * (rng.random() < 0.4),
        )
        last = Pose(last.x, last.y, last.scale, min(max(last.turn, -STEEP), STEEP))
        return cls(
            first=first,
            last=last.inside((tall, across), size),
            frames=frames,
            still=(tall, across),
            size=size,
            sway=rng.uniform(0, 1.2) * (rng.random() < 0.5) * bool(moving),
            period=rng.uniform(9, 24),
            phase=rng.uniform(0, 2 * pi),
        )

    def pose(self, frame: int) -> Pose:
        share = frame / max(1, self.frames - 1)
        pose = self.first.toward(self.last, share)
        angle = 2 * pi * frame / self.period + self.phase
        x, y = pose.x + self.sway * sin(angle), pose.y + self.sway * sin(0.7 * angle)
        return Pose(x, y, pose.scale, pose.turn).inside(self.still, self.size)

    def film(self, still: np.ndarray) -> np.ndarray:
        """uint8 `[h w 3]` to frames `[t h w 3]`."""
        if still.shape != (*self.still, 3) or still.dtype != np.uint8:
            raise ShapeError(
                f"This camera move was made for a still of uint8 {[*self.still, 3]}, not "
                f"{still.dtype} {list(still.shape)}."
            )
        poses = [self.pose(frame) for frame in range(self.frames)]
        # what is only ever seen smaller is made smaller first, or its details would flicker
        shrink = max(1.0, min(pose.scale for pose in poses))
        size = round(self.still[1] / shrink), round(self.still[0] / shrink)
        seen = still if shrink == 1 else cv2.resize(still, size, interpolation=cv2.INTER_AREA)
        return np.stack([_view(seen, pose, shrink, self.size) for pose in poses])


def moved(still: np.ndarray, frames: int, rng: np.random.Generator, side: int) -> np.ndarray:
    """Square frames `[t side side 3]` of a random move over a still `[h w 3]`."""
    return Move.random(still, frames, (side, side), rng).film(still)


def _view(seen: np.ndarray, pose: Pose, shrink: float, size: tuple[int, int]) -> np.ndarray:
    """What a camera sees: a frame's pixels looked up in a still that was shrunk."""
    a, b = (pose.scale / shrink * f(pose.turn) for f in (cos, sin))
    middle_x, middle_y = (size[1] - 1) / 2, (size[0] - 1) / 2
    x, y = pose.x / shrink - 0.5, pose.y / shrink - 0.5
    matrix = np.array(
        [
            [a, -b, x - a * middle_x + b * middle_y],
            [b, a, y - b * middle_x - a * middle_y],
        ]
    )
    how = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(seen, matrix, size[::-1], flags=how, borderMode=cv2.BORDER_REPLICATE)
