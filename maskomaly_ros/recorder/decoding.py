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

"""What of serialized messages the recorder looks at, without ROS: by rosbags' definitions.

Whoever can publish can send anything; sizes are checked before memory is taken.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.encodings import check_image, decode_compressed, decode_image
from maskomaly_ros.errors import MaskomalyError, in_words
from maskomaly_ros.interfaces import COMPRESSED, DEFINITIONS, IMAGE, TYPES
from maskomaly_ros.obstacles import Obstacle

CLOUD, DIAGNOSTICS, BOOL, EMPTY = (
    'sensor_msgs/msg/PointCloud2',
    'diagnostic_msgs/msg/DiagnosticArray',
    'std_msgs/msg/Bool',
    'std_msgs/msg/Empty',
)
OBSTACLES = TYPES['obstacles']
_MOST_BYTES = 1 << 22  # of a list of obstacles, a cloud of them, or diagnostics
_MOST_OBSTACLES = 1000


@cache
def typestore() -> Any:
    """Return definitions of all standard types and of ours (`rosbags.typesys.store.Typestore`).

    Raises:
        MaskomalyError: rosbags is not installed.

    """
    try:
        from rosbags.typesys import Stores, get_types_from_msg, get_typestore
    except ImportError as error:
        raise MaskomalyError('recording needs rosbags: pip install rosbags') from error
    store = get_typestore(Stores.ROS2_JAZZY)
    for name, definition in DEFINITIONS.items():
        store.register(get_types_from_msg(definition, name))
    return store


def deserialize(data: bytes, msgtype: str) -> Any:
    """Return a message.

    Raises:
        MaskomalyError: the bytes are no such message.

    """
    try:
        return typestore().deserialize_cdr(data, msgtype)
    except Exception as error:  # of a kind that depends on where the bytes stop making sense
        raise MaskomalyError(f'{len(data)} bytes are no {msgtype}: {in_words(error)}') from error


def decode_picture(data: bytes, msgtype: str, max_pixels: int) -> NDArray[np.uint8]:
    """Return the picture of a camera message, RGB uint8 [H, W, 3].

    Raises:
        MaskomalyError: it is none that can be used.

    """
    if msgtype not in (IMAGE, COMPRESSED):
        raise MaskomalyError(f'{msgtype} is no picture')
    message = deserialize(data, msgtype)
    decode = decode_compressed if msgtype == COMPRESSED else decode_image
    return decode(message, max_pixels=max_pixels)


def decode_mask(data: bytes, max_pixels: int) -> NDArray[np.uint8]:
    """Return an obstacle mask, uint8 [H, W].

    Raises:
        MaskomalyError: it is none.

    """
    return _plane(data, max_pixels, {'mono8': np.dtype(np.uint8)}).view(np.uint8)


def decode_heatmap(data: bytes, max_pixels: int) -> NDArray[np.float32]:
    """Return a score map, float32 [H, W] in [0, 1], of a `32FC1` or `mono8` image.

    Raises:
        MaskomalyError: it is none.

    """
    kinds = {'32FC1': np.dtype(np.float32), 'mono8': np.dtype(np.uint8)}
    plane = _plane(data, max_pixels, kinds)
    score = np.asarray(plane, np.float32)
    if plane.dtype == np.uint8:
        score = score / np.float32(255)
    finite: NDArray[np.float32] = np.nan_to_num(score, nan=0.0, posinf=1.0, neginf=0.0)
    return finite


def _plane(data: bytes, max_pixels: int, kinds: dict[str, Any]) -> NDArray[Any]:
    message = deserialize(data, IMAGE)
    kind = kinds.get(message.encoding)
    if kind is None:
        raise MaskomalyError(f'encoding {message.encoding!r} is none of {", ".join(kinds)}')
    if message.encoding != '32FC1':
        check_image(message, max_pixels=max_pixels)
    height, width, step = message.height, message.width, message.step
    if not (height > 0 and width > 0 and height * width <= max_pixels):
        raise MaskomalyError(f'{width} x {height} pixels are none, or more than {max_pixels}')
    if step < width * kind.itemsize or len(message.data) < step * height:
        raise MaskomalyError(
            f'{len(message.data)} bytes in rows of {step} are no {width} x {height} pixels'
        )
    rows = np.frombuffer(message.data, np.uint8)[: step * height].reshape(height, step)
    plane = np.ascontiguousarray(rows[:, : width * kind.itemsize]).view(kind)
    swapped: NDArray[Any] = plane.byteswap()
    return swapped if message.is_bigendian and kind.itemsize > 1 else plane


def decode_obstacles(data: bytes) -> tuple[Obstacle, ...]:
    """Return the obstacles of a `Detection2DArray` as the node publishes it.

    It knows boxes and mean scores: the area is that of the box, and both scores are the mean.

    Raises:
        MaskomalyError: it is none, or too large.

    """
    _check_bytes(data, OBSTACLES)
    found = []
    for detection in deserialize(data, OBSTACLES).detections[:_MOST_OBSTACLES]:
        box = detection.bbox
        centre = box.center.position
        numbers = (centre.x, centre.y, box.size_x, box.size_y)
        if not all(math.isfinite(n) and abs(n) < 1e6 for n in numbers) or not detection.results:
            continue
        width, height = round(box.size_x), round(box.size_y)
        score = detection.results[0].hypothesis.score
        found.append(
            Obstacle(
                x=round(centre.x - box.size_x / 2),
                y=round(centre.y - box.size_y / 2),
                width=width,
                height=height,
                area=width * height,
                mean_score=score,
                max_score=score,
                id=int(detection.id) if detection.id.isdecimal() and len(detection.id) < 18
                else None,
            )
        )  # fmt: skip
    return tuple(found)


def decode_ranges(data: bytes) -> dict[int, tuple[float, float | None]]:
    """Return range and standard deviation, in metres, of each obstacle in a cloud of the node.

    The range is that of the nearest point, straight from the origin of its frame, which is the
    vehicle's or the camera's.

    Raises:
        MaskomalyError: it is no such cloud, or too large.

    """
    _check_bytes(data, CLOUD)
    cloud = deserialize(data, CLOUD)
    offsets = {each.name: each.offset for each in cloud.fields}
    names = ('x', 'y', 'z', 'id', 'range_stddev')
    step = cloud.point_step
    if set(names) - set(offsets) or any(offsets[n] + 4 > step for n in names):
        raise MaskomalyError(f'a cloud with {", ".join(offsets)} is none of obstacles')
    kinds = ['<f4', '<f4', '<f4', '<u4', '<f4']
    layout = np.dtype(
        {
            'names': list(names),
            'formats': kinds,
            'offsets': [offsets[n] for n in names],
            'itemsize': step,
        }
    )
    count = len(cloud.data) // step
    points = np.frombuffer(cloud.data, layout, count)
    squares = sum(points[axis].astype(np.float64) ** 2 for axis in 'xyz')
    distance = np.sqrt(np.asarray(squares))
    found: dict[int, tuple[float, float | None]] = {}
    for number in np.unique(points['id'])[:_MOST_OBSTACLES].tolist():
        own = np.flatnonzero((points['id'] == number) & np.isfinite(distance))
        if len(own):
            nearest = own[distance[own].argmin()]
            spread = float(points['range_stddev'][nearest])
            found[number] = float(distance[nearest]), spread if math.isfinite(spread) else None
    return found


def decode_network_facts(data: bytes) -> dict[str, str]:
    """Return what diagnostics of the node say of its checkpoint and queries; else nothing.

    Raises:
        MaskomalyError: the bytes are no diagnostics, or too large.

    """
    _check_bytes(data, DIAGNOSTICS)
    for status in deserialize(data, DIAGNOSTICS).status:
        values = {each.key: each.value[:200] for each in status.values}
        if 'checkpoint sha256' in values:
            names = ('checkpoint', 'checkpoint sha256', 'queries sha256')
            return {name: values[name] for name in names if name in values}
    return {}


def decode_bool(data: bytes) -> bool:
    """Return the value of a `std_msgs/Bool`."""
    return bool(deserialize(data, BOOL).data)


def _check_bytes(data: bytes, msgtype: str) -> None:
    if len(data) > _MOST_BYTES:
        raise MaskomalyError(f'{msgtype} of {len(data)} bytes has more than {_MOST_BYTES}')
