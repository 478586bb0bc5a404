# Copyright 2026 The maskomaly_ros contributors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""Measure how far the contact line of labelled objects of KITTI is from what the lidar says.

    python benchmarks/ground.py shared/data/kitti_ground

An object's mask is the hull of its lidar points and of the ground right below them (`lidar`), or
of its labelled box (`box`). Its range from that mask is compared with the nearest lidar point
of it, more than 15 cm above the ground, along the ground: once with the camera where the data
set's page says, 1.65 m high and level, and once with the plane that fits the lidar points of the
road in that frame, which is the best that any calibration could give.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.ground import CameraModel, CameraPose, Locator, LocatorParameters
from maskomaly_ros.obstacles import find_components

Floats = NDArray[np.float64]

PAGE_HEIGHT = 1.65
LEAST_POINTS = 5
ABOVE_GROUND = 0.15


@dataclass(frozen=True)
class Frame:
    """One frame, everything in the optical frame of the colour camera, in metres."""

    name: str
    camera: CameraModel
    lidar: Floats
    boxes: list[tuple[str, Floats, Floats]]  # kind, corners [8, 3], lidar points inside
    ground: CameraPose


def read_frames(folder: Path) -> Iterator[Frame]:
    """Yield the frames of a folder in the layout of KITTI's object benchmark."""
    for labels in sorted((folder / 'label_2').glob('*.txt')):
        calibration = dict(_calibration(folder / 'calib' / labels.name))
        picture = cv2.imread(str(folder / 'image_2' / f'{labels.stem}.png'))
        assert picture is not None, labels.stem
        projection = calibration['P2'].reshape(3, 4)
        matrix = projection[:, :3]
        # From the grey camera to the colour one.
        shift: Floats = np.linalg.solve(matrix, projection[:, 3]).astype(np.float64)
        rectify = calibration['R0_rect'].reshape(3, 3)
        extrinsic = calibration['Tr_velo_to_cam'].reshape(3, 4)
        scan = np.fromfile(folder / 'velodyne' / f'{labels.stem}.bin', np.float32)
        lidar = scan.reshape(-1, 4)[:, :3] @ extrinsic[:, :3].T + extrinsic[:, 3]
        lidar = lidar @ rectify.T + shift
        yield Frame(
            labels.stem,
            CameraModel(picture.shape[:2], matrix),
            lidar,
            list(_boxes(labels, lidar, shift)),
            fit_ground(lidar),
        )


def _calibration(path: Path) -> Iterator[tuple[str, Floats]]:
    for line in path.read_text().splitlines():
        name, _, values = line.partition(':')
        if values:
            yield name, np.array(values.split(), float)


def _boxes(labels: Path, lidar: Floats, shift: Floats) -> Iterator[tuple[str, Floats, Floats]]:
    signs = np.array([(a, b, c) for a in (-0.5, 0.5) for b in (-1, 0) for c in (-0.5, 0.5)])
    for line in labels.read_text().splitlines():
        kind, *values = line.split()
        if kind == 'DontCare':
            continue
        height, width, length, x, y, z, turn = map(float, values[7:14])
        sin, cos = np.sin(turn), np.cos(turn)
        turned = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
        middle = np.array([x, y, z]) + shift
        own = (lidar - middle) @ turned / (length, height, width)
        inside = (np.abs(own - (0, -0.5, 0)) < 0.55).all(axis=1)
        yield kind, signs * (length, height, width) @ turned.T + middle, lidar[inside]


def fit_ground(lidar: Floats) -> CameraPose:
    """Return the pose over the plane through the road right ahead, by RANSAC and a fit."""
    x, y, z = lidar.T
    road = lidar[(np.abs(x) < 6) & (y > 1.2) & (y < 2.2) & (z > 4) & (z < 35)]
    random = np.random.default_rng(0)
    best = np.zeros(len(road), bool)
    for _ in range(300):
        a, b, c = road[random.choice(len(road), 3, replace=False)]
        normal = np.cross(b - a, c - a)
        normal /= max(float(np.linalg.norm(normal)), 1e-9)
        close = np.abs((road - a) @ normal) < 0.05
        best = close if close.sum() > best.sum() else best
    middle = road[best].mean(axis=0)
    up = np.linalg.svd(road[best] - middle)[2][2]
    up *= -np.sign(up[1])
    forward = np.array([0, 0, 1.0]) - up[2] * up
    forward /= np.linalg.norm(forward)
    rotation = np.array([forward, np.cross(up, forward), up])
    return CameraPose(rotation, np.array([0, 0, -float(middle @ up)]))


def _range(frame: Frame, hull: Floats, pose: CameraPose) -> tuple[float, float]:
    mask: NDArray[np.uint8] = np.zeros(frame.camera.size, np.uint8)
    pixels = np.round(frame.camera.project(hull)).astype(np.int32)
    cv2.fillConvexPoly(mask, cv2.convexHull(pixels), 255)
    components = find_components(np.float32(1) * (mask > 0), mask)
    located = Locator(frame.camera, pose, LocatorParameters(max_range=200)).locate(components)
    found = located.obstacles[0]
    return found.range or np.nan, found.range_stddev or np.nan


def measure(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield what is found of each object, nearest first in each frame."""
    for frame in read_frames(folder):
        for kind, corners, points in frame.boxes:
            places = frame.ground.to_frame(points)
            standing = places[places[:, 2] > ABOVE_GROUND]
            if len(standing) < LEAST_POINTS:
                continue
            feet = frame.ground.to_optical(standing * (1, 1, 0))
            lidar_hull = np.vstack([frame.ground.to_optical(standing), feet])
            row = {
                'frame': frame.name,
                'object': kind,
                'points': len(standing),
                'lidar': float(np.hypot(standing[:, 0], standing[:, 1]).min()),
            }
            for ground, pose in (
                ('level', CameraPose.mounted(PAGE_HEIGHT)),
                ('plane', frame.ground),
            ):
                for mask, hull in (('lidar', lidar_hull), ('box', corners)):
                    row[f'{ground}, {mask} mask'] = _range(frame, hull, pose)
            yield row


def main() -> int:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument('folder', type=Path)
    rows = sorted(measure(parser.parse_args().folder), key=lambda row: row['lidar'])
    names = [name for name in rows[0] if 'mask' in name] if rows else []
    lines = [['object', 'lidar (m)', *names], ['---'] * (len(names) + 2)]
    for row in rows:
        cells = [
            f'{found:.1f} ± {spread:.1f} ({found / row["lidar"] - 1:+.1%})'
            for found, spread in (row[name] for name in names)
        ]
        lines.append([row['object'], f'{row["lidar"]:.1f}', *cells])
    sys.stdout.writelines(f'| {" | ".join(line)} |\n' for line in lines)
    return 0


if __name__ == '__main__':
    sys.exit(main())
