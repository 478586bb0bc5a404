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

"""Results as messages, written down once for rclpy and for bags, without either.

A `Message` names its type and those of its fields that are not zero. `node/messages.py` makes a
message of rclpy from it, and `replay/outputs.py` one of rosbags.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.ground import POINT, Located
from maskomaly_ros.obstacles import Components, Obstacle
from maskomaly_ros.visualization import label

if TYPE_CHECKING:
    from maskomaly_ros.detector import Detection

__all__ = [
    'DEFINITIONS',
    'TYPES',
    'Message',
    'annotations_message',
    'header',
    'heatmap_message',
    'jpeg_message',
    'label_info_message',
    'markers_message',
    'mask_message',
    'obstacles_message',
    'output_message',
    'picture_message',
    'points_message',
]

IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
# Outputs of a camera, beside it, and their types.
TYPES: Final = {
    'heatmap': IMAGE,
    'heatmap/mono8': IMAGE,
    'mask': IMAGE,
    'overlay': IMAGE,
    'overlay/compressed': COMPRESSED,
    'obstacles': 'vision_msgs/msg/Detection2DArray',
    'points': 'sensor_msgs/msg/PointCloud2',
    'markers': 'visualization_msgs/msg/MarkerArray',
    'label_info': 'vision_msgs/msg/LabelInfo',
    'annotations': 'foxglove_msgs/msg/ImageAnnotations',
}
CLASS = 'obstacle'
_DATATYPES = {'f4': 7, 'u4': 6}  # of sensor_msgs/PointField
_ADD, _DELETE_ALL = 0, 3
_CUBE, _LINE_STRIP, _TEXT = 1, 4, 9
_LINE_LOOP = 2  # of foxglove_msgs/PointsAnnotation
_LIFETIME = 1  # seconds for which markers stay when nothing comes any more
_COLOR: Final = (1.0, 0.35, 0.0, 1.0)
_MOST_CORNERS = 64
_MOST_MARKED = 100  # of the largest obstacles; noise has thousands


@dataclass(frozen=True)
class Message:
    """A message of a type such as `std_msgs/msg/Header`.

    Attributes:
        type: its name.
        fields: by name; a value is plain, bytes, pixels (contiguous, of any type), a Message, a
            list of these, or what a header had for its stamp.

    """

    type: str
    fields: Mapping[str, Any]


def header(stamp: Any, frame: str) -> Message:
    """Return a header with the stamp of another one."""
    return Message('std_msgs/msg/Header', {'stamp': stamp, 'frame_id': frame})


def output_message(
    name: str,
    detection: Detection,
    head: Any,
    *,
    overlay: Callable[[], NDArray[np.uint8]],
    jpeg_quality: int,
    located: Located | None,
) -> Message | None:
    """Return an output for one frame; None where there is nothing to say.

    Args:
        name: one of `TYPES`, except `label_info`, which is not of a frame.
        detection: in the frame.
        head: of the frame.
        overlay: returns the frame with its score in colour, RGB [H, W, 3]; asked where it is
            needed.
        jpeg_quality: 1 to 100.
        located: where the obstacles are; None leaves out what says so.

    Raises:
        MaskomalyError: the frame does not fit a JPEG.

    """
    if name == 'heatmap':
        return heatmap_message(detection.score, '32FC1', head)
    if name == 'heatmap/mono8':
        return heatmap_message(detection.score, 'mono8', head)
    if name == 'mask':
        return mask_message(detection.mask, head)
    if name == 'overlay':
        return picture_message(overlay(), head)
    if name == 'overlay/compressed':
        return jpeg_message(overlay(), jpeg_quality, head)
    if name == 'obstacles':
        return obstacles_message(detection.obstacles, head)
    if name == 'annotations':
        return annotations_message(detection.components, head.stamp)
    if located is None:
        return None
    place = header(head.stamp, located.frame or head.frame_id)
    return {'points': points_message, 'markers': markers_message}[name](located, place)


def heatmap_message(score: NDArray[np.float32], encoding: str, head: Any) -> Message:
    """Return a score map [H, W] as an image, `32FC1` or `mono8` (score times 255)."""
    if encoding == 'mono8':
        return _image(cv2.convertScaleAbs(score, alpha=255), encoding, head)
    return _image(np.asarray(score, np.float32), encoding, head)


def mask_message(mask: NDArray[np.uint8], head: Any) -> Message:
    """Return an obstacle mask, uint8 [H, W], as a `mono8` image."""
    return _image(mask, 'mono8', head)


def picture_message(picture: NDArray[np.uint8], head: Any) -> Message:
    """Return a picture, RGB uint8 [H, W, 3], as a `bgr8` image."""
    return _image(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), 'bgr8', head)


def jpeg_message(picture: NDArray[np.uint8], quality: int, head: Any) -> Message:
    """Return a picture, RGB uint8 [H, W, 3], as a JPEG of quality 1 to 100.

    Raises:
        MaskomalyError: it does not fit one.

    """
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode('.jpg', bgr, (cv2.IMWRITE_JPEG_QUALITY, quality))
    if not done:
        raise MaskomalyError(f'{picture.shape[1]} x {picture.shape[0]} pixels do not fit a JPEG')
    fields = {'header': head, 'format': 'bgr8; jpeg compressed bgr8', 'data': data}
    return Message(COMPRESSED, fields)


def _image(pixels: NDArray[Any], encoding: str, head: Any) -> Message:
    height, width = pixels.shape[:2]
    return Message(
        IMAGE,
        {
            'header': head,
            'height': height,
            'width': width,
            'encoding': encoding,
            'is_bigendian': int(sys.byteorder == 'big'),
            'step': pixels.nbytes // height,
            'data': np.ascontiguousarray(pixels),
        },
    )


def obstacles_message(found: Iterable[Obstacle], head: Any) -> Message:
    """Return obstacles as `Detection2DArray`; the score is the mean score, the id a number."""
    return Message(
        TYPES['obstacles'],
        {'header': head, 'detections': [_detection(obstacle, head) for obstacle in found]},
    )


def _detection(obstacle: Obstacle, head: Any) -> Message:
    hypothesis = Message(
        'vision_msgs/msg/ObjectHypothesis',
        {'class_id': CLASS, 'score': float(obstacle.mean_score)},
    )
    middle = Message(
        'vision_msgs/msg/Point2D',
        {'x': obstacle.x + obstacle.width / 2, 'y': obstacle.y + obstacle.height / 2},
    )
    box = {
        'center': Message('vision_msgs/msg/Pose2D', {'position': middle}),
        'size_x': float(obstacle.width),
        'size_y': float(obstacle.height),
    }
    result = Message('vision_msgs/msg/ObjectHypothesisWithPose', {'hypothesis': hypothesis})
    return Message(
        'vision_msgs/msg/Detection2D',
        {
            'header': head,
            'results': [result],
            'bbox': Message('vision_msgs/msg/BoundingBox2D', box),
            'id': '' if obstacle.id is None else str(obstacle.id),
        },
    )


def points_message(located: Located, head: Message) -> Message:
    """Return places as `PointCloud2` with the fields of `ground.POINT`."""
    fields = [
        Message(
            'sensor_msgs/msg/PointField',
            {
                'name': name,
                'offset': int(POINT.fields[name][1]),  # type: ignore[index]
                'datatype': _DATATYPES[POINT[name].str[1:]],
                'count': 1,
            },
        )
        for name in POINT.names or ()
    ]
    count = len(located.points)
    return Message(
        TYPES['points'],
        {
            'header': head,
            'height': 1,
            'width': count,
            'fields': fields,
            'point_step': POINT.itemsize,
            'row_step': POINT.itemsize * count,
            'data': located.points.tobytes(),
            'is_dense': True,
        },
    )


def markers_message(located: Located, head: Message) -> Message:
    """Return the footprint and the label of each obstacle as `MarkerArray`.

    It begins with the order to delete all others. A footprint is the contact line, or the box
    around the points that depth gives.
    """
    found = [Message('visualization_msgs/msg/Marker', {'header': head, 'action': _DELETE_ALL})]
    for index, obstacle in enumerate(located.obstacles[:_MOST_MARKED]):
        places = located.footprint(index)
        if not len(places):
            continue
        shared = {
            'header': head,
            'id': index if obstacle.id is None else obstacle.id % 2**31,
            'action': _ADD,
            'color': _color(*_COLOR),
            'lifetime': Message('builtin_interfaces/msg/Duration', {'sec': _LIFETIME}),
        }
        low, high = places.min(axis=0), places.max(axis=0)
        if obstacle.range_stddev is None:
            size = np.maximum(high - low, 0.05)
            shape = {'type': _CUBE, 'pose': _pose((low + high) / 2), 'scale': _vector(*size)}
        else:
            step = -(-len(places) // _MOST_CORNERS)
            corners = np.vstack([places[::step], places[-1:]])
            shape = {
                'type': _LINE_STRIP,
                'pose': _pose(np.zeros(3)),
                'scale': _vector(0.1, 0.0, 0.0),
                'points': [_point(*corner) for corner in corners.tolist()],
            }
        text = label(obstacle)
        if obstacle.range_stddev is not None:
            text += f' ± {obstacle.range_stddev:.1f}'
        written = {
            'type': _TEXT,
            'pose': _pose(places.mean(axis=0)),
            'scale': _vector(0.0, 0.0, 0.4),
            'text': text,
        }
        for namespace, more in (('footprint', shape), ('label', written)):
            fields = {**shared, 'ns': namespace, **more}
            found.append(Message('visualization_msgs/msg/Marker', fields))
    return Message(TYPES['markers'], {'markers': found})


def label_info_message(head: Any, threshold: float) -> Message:
    """Return what the values of the mask mean, as `LabelInfo`."""
    classes = [
        Message('vision_msgs/msg/VisionClass', {'class_id': number, 'class_name': name})
        for number, name in ((0, 'ordinary'), (255, CLASS))
    ]
    return Message(
        TYPES['label_info'], {'header': head, 'class_map': classes, 'threshold': float(threshold)}
    )


def annotations_message(components: Components, stamp: Any) -> Message:
    """Return outlines and labels to be drawn over the raw picture, as `ImageAnnotations`."""
    outlines, texts = [], []
    color = _color(0.0, 1.0, 1.0, 1.0, 'foxglove_msgs/msg/Color')
    ground = _color(0.0, 0.0, 0.0, 0.6, 'foxglove_msgs/msg/Color')
    for index, obstacle in enumerate(components.obstacles[:_MOST_MARKED]):
        for outline in _outlines(components, index):
            outlines.append(
                Message(
                    'foxglove_msgs/msg/PointsAnnotation',
                    {
                        'timestamp': stamp,
                        'type': _LINE_LOOP,
                        'points': [_pixel(*corner) for corner in outline],
                        'outline_color': color,
                        'thickness': 2.0,
                    },
                )
            )
        texts.append(
            Message(
                'foxglove_msgs/msg/TextAnnotation',
                {
                    'timestamp': stamp,
                    'position': _pixel(obstacle.x, obstacle.y),
                    'text': f'{label(obstacle)} {obstacle.mean_score:.2f}'.strip(),
                    'font_size': 16.0,
                    'text_color': color,
                    'background_color': ground,
                },
            )
        )
    return Message(TYPES['annotations'], {'points': outlines, 'texts': texts})


def _outlines(components: Components, index: int) -> Sequence[list[list[float]]]:
    """Return the outer outline of an obstacle, as corners x and y in the frame."""
    obstacle = components.obstacles[index]
    left, top = obstacle.x - components.left, obstacle.y - components.top
    labels = components.labels[top : top + obstacle.height, left : left + obstacle.width]
    inside: NDArray[np.uint8] = (components.owner[labels] == index).astype(np.uint8)
    found, _ = cv2.findContours(
        inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(obstacle.x, obstacle.y)
    )
    return [cv2.approxPolyDP(c, 1.0, True)[:, 0].tolist() for c in found]


def _vector(x: float, y: float, z: float) -> Message:
    return Message('geometry_msgs/msg/Vector3', {'x': float(x), 'y': float(y), 'z': float(z)})


def _point(x: float, y: float, z: float) -> Message:
    return Message('geometry_msgs/msg/Point', {'x': float(x), 'y': float(y), 'z': float(z)})


def _pose(place: NDArray[np.float64]) -> Message:
    level = Message('geometry_msgs/msg/Quaternion', {'w': 1.0})
    fields = {'position': _point(*place.tolist()), 'orientation': level}
    return Message('geometry_msgs/msg/Pose', fields)


def _pixel(x: float, y: float) -> Message:
    return Message('foxglove_msgs/msg/Point2', {'x': float(x), 'y': float(y)})


def _color(
    r: float, g: float, b: float, a: float, kind: str = 'std_msgs/msg/ColorRGBA'
) -> Message:
    return Message(kind, {'r': r, 'g': g, 'b': b, 'a': a})


# Of packages that readers of bags need not have; a bag carries them along. vision_msgs 4.1
# (Apache-2.0) and foxglove_msgs (MIT), as published; tests compare them with copies of the files.
DEFINITIONS: Final = {
    'vision_msgs/msg/Point2D': 'float64 x\nfloat64 y\n',
    'vision_msgs/msg/Pose2D': 'vision_msgs/Point2D position\nfloat64 theta\n',
    'vision_msgs/msg/BoundingBox2D': 'vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y\n',
    'vision_msgs/msg/ObjectHypothesis': 'string class_id\nfloat64 score\n',
    'vision_msgs/msg/ObjectHypothesisWithPose': (
        'vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose\n'
    ),
    'vision_msgs/msg/Detection2D': (
        'std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n'
        'vision_msgs/BoundingBox2D bbox\nstring id\n'
    ),
    'vision_msgs/msg/Detection2DArray': (
        'std_msgs/Header header\nvision_msgs/Detection2D[] detections\n'
    ),
    'vision_msgs/msg/VisionClass': 'uint16 class_id\nstring class_name\n',
    'vision_msgs/msg/LabelInfo': (
        'std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold\n'
    ),
    'foxglove_msgs/msg/Point2': 'float64 x\nfloat64 y\n',
    'foxglove_msgs/msg/Color': 'float64 r\nfloat64 g\nfloat64 b\nfloat64 a\n',
    'foxglove_msgs/msg/CircleAnnotation': (
        'builtin_interfaces/Time timestamp\nfoxglove_msgs/Point2 position\nfloat64 diameter\n'
        'float64 thickness\nfoxglove_msgs/Color fill_color\nfoxglove_msgs/Color outline_color\n'
    ),
    'foxglove_msgs/msg/PointsAnnotation': (
        'builtin_interfaces/Time timestamp\nuint8 UNKNOWN=0\nuint8 POINTS=1\n'
        'uint8 LINE_LOOP=2\nuint8 LINE_STRIP=3\nuint8 LINE_LIST=4\nuint8 type\n'
        'foxglove_msgs/Point2[] points\nfoxglove_msgs/Color outline_color\n'
        'foxglove_msgs/Color[] outline_colors\nfoxglove_msgs/Color fill_color\n'
        'float64 thickness\n'
    ),
    'foxglove_msgs/msg/TextAnnotation': (
        'builtin_interfaces/Time timestamp\nfoxglove_msgs/Point2 position\nstring text\n'
        'float64 font_size\nfoxglove_msgs/Color text_color\n'
        'foxglove_msgs/Color background_color\n'
    ),
    'foxglove_msgs/msg/ImageAnnotations': (
        'foxglove_msgs/CircleAnnotation[] circles\nfoxglove_msgs/PointsAnnotation[] points\n'
        'foxglove_msgs/TextAnnotation[] texts\n'
    ),
}
