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

"""From recordings to pictures for labelling, and from corrected labels to a data set.

An export is a data set of layout `plain` (`images/NAME.png`, `labels/NAME.png`: 0 not anomaly, 1
anomaly, 255 ignore), with the same in `annotations.json` as COCO polygons. What the node took for
an obstacle is where labelling begins.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.errors import MaskomalyError, in_words
from maskomaly_ros.evaluation.datasets import LAYOUTS, write_plain
from maskomaly_ros.interfaces import COMPRESSED, IMAGE
from maskomaly_ros.node.health import stamp_of
from maskomaly_ros.recorder.catalogue import Catalogue, Recording
from maskomaly_ros.recorder.decoding import decode_mask, decode_picture
from maskomaly_ros.topics import file_name, outputs_of

COCO = 'annotations.json'
CATEGORY = {'id': 1, 'name': 'obstacle', 'supercategory': 'anomaly'}
_MAX_PIXELS = 2**27
_IGNORE = 255
_MOST_BYTES = 1 << 30  # of a COCO file


@dataclass
class Export:
    """What was exported.

    Attributes:
        images: number of pictures.
        annotations: number of obstacles in them.
        skipped: recordings that could not be read, and why.

    """

    images: int = 0
    annotations: int = 0
    skipped: dict[str, str] = field(default_factory=dict)


def export(
    catalogue: Catalogue, recordings: Sequence[Recording], out: Path, frames: int = 3
) -> Export:
    """Write pictures of events with what the node took for obstacles.

    Args:
        catalogue: where the recordings are.
        recordings: some of it.
        out: folder; new or empty.
        frames: pictures of each event, its peak among them; of a recording that somebody asked
            for, pictures of each camera around the moment.

    Raises:
        MaskomalyError: the folder is not empty, or cannot be written.

    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MaskomalyError(f'{out} exists and is no empty folder; give another')
    found = Export()
    coco: dict[str, list[Any]] = {'images': [], 'annotations': [], 'categories': [CATEGORY]}
    for recording in recordings:
        try:
            for camera, stamp, image, mask in _pictures(catalogue, recording, frames):
                name = f'{recording.name}.{file_name(camera)}.{stamp}'
                height, width = image.shape[0], image.shape[1]
                label = np.full((height, width), _IGNORE, np.uint8)
                if mask is not None and mask.shape == label.shape:
                    label = (mask > 0).astype(np.uint8)
                write_plain(out, name, image, label)
                found.images += 1
                file = LAYOUTS['plain'].images.replace('{name}.*', f'{name}.png')
                coco['images'].append(
                    {
                        'id': found.images, 'file_name': Path(file).name, 'width': width,
                        'height': height, 'recording': recording.name, 'camera': camera,
                        'stamp_ns': stamp,
                    }
                )  # fmt: skip
                for annotation in _annotations(label == 1):
                    found.annotations += 1
                    coco['annotations'].append(
                        {'id': found.annotations, 'image_id': found.images, **annotation}
                    )
        except MaskomalyError as error:
            found.skipped[recording.name] = str(error)
    _write(out / COCO, json.dumps(coco))
    return found


def labels_from_coco(file: Path, out: Path) -> int:
    """Write the labels of an export anew, from a COCO file that was corrected.

    Polygons of any category count as anomaly; a category named `ignore` counts as such.

    Args:
        file: with the same pictures, by name.
        out: the export.

    Returns:
        How many labels were written.

    Raises:
        MaskomalyError: the file is no COCO, or names pictures that the export does not have.

    """
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise MaskomalyError(f'{file} has more than {_MOST_BYTES} bytes')
        coco = json.loads(file.read_text(encoding='utf-8'))
        ignored = {c['id'] for c in coco.get('categories', ()) if c['name'] == 'ignore'}
        polygons: dict[int, list[tuple[int, Any]]] = {}
        for each in coco['annotations']:
            value = _IGNORE if each['category_id'] in ignored else 1
            for ring in each['segmentation']:
                corners = np.rint(np.asarray(ring, np.float64).reshape(-1, 2)).astype(np.int32)
                polygons.setdefault(each['image_id'], []).append((value, corners))
        images = [(each['id'], str(each['file_name'])) for each in coco['images']]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        if isinstance(error, MaskomalyError):
            raise
        raise MaskomalyError(f'{file} is no COCO file with polygons: {in_words(error)}') from error
    layout = LAYOUTS['plain']
    for number, name in images:
        stem = Path(name).stem
        path = out / layout.labels.replace('{name}.*', f'{stem}.png')
        before = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if Path(name).name != name or before is None:
            raise MaskomalyError(f'{file} names the picture {name!r}, which {out} does not have')
        label = np.zeros(before.shape[:2], np.uint8)
        for value, corners in polygons.get(number, ()):
            cv2.fillPoly(label, [corners], value)
        path.write_bytes(cv2.imencode('.png', label)[1].tobytes())
    return len(images)


def _annotations(mask: NDArray[np.bool_]) -> Iterator[dict[str, Any]]:
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    for number in range(1, count):
        x, y, width, height, area = boxes[number].tolist()
        inside = (labels[y : y + height, x : x + width] == number).astype(np.uint8)
        rings, _ = cv2.findContours(
            inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(x, y)
        )
        polygons = [ring.reshape(-1).tolist() for ring in rings if len(ring) > 2]
        if not polygons:  # a line, which is no polygon
            right, bottom = x + width - 1, y + height - 1
            polygons = [[x, y, right, y, right, bottom, x, bottom]]
        yield {
            'category_id': CATEGORY['id'], 'bbox': [x, y, width, height], 'area': area,
            'segmentation': polygons, 'iscrowd': 0,
        }  # fmt: skip


def _pictures(
    catalogue: Catalogue, recording: Recording, frames: int
) -> Iterator[tuple[str, int, NDArray[np.uint8], NDArray[np.uint8] | None]]:
    """Yield camera, stamp, picture and mask of the chosen frames of a recording."""
    try:
        from rosbags.rosbag2 import Reader
    except ImportError as error:
        raise MaskomalyError('reading recordings needs rosbags: pip install rosbags') from error
    folder = catalogue.path(recording.name)
    try:
        with Reader(folder) as reader:
            cameras = {
                c.topic: c.msgtype
                for c in reader.connections
                if c.msgtype in (IMAGE, COMPRESSED) and '/anomaly/' not in c.topic
            }
            own = [c for c in reader.connections if c.topic in cameras]
            stamps: dict[str, list[tuple[int, int]]] = {}
            for connection, received_ns, data in reader.messages(own):
                stamp = stamp_of(bytes(data[:12])) or 0
                stamps.setdefault(connection.topic, []).append((stamp, received_ns))
            chosen = _chosen(recording, stamps, frames)
            masks = {f'{outputs_of(camera)}/mask': camera for camera in chosen}
            wanted = [c for c in reader.connections if c.topic in (*chosen, *masks)]
            found: dict[tuple[str, int], dict[str, bytes]] = {}
            for connection, _, data in reader.messages(wanted):
                camera = masks.get(connection.topic, connection.topic)
                stamp = stamp_of(bytes(data[:12])) or 0
                if stamp in chosen[camera]:
                    what = 'mask' if connection.topic in masks else 'image'
                    found.setdefault((camera, stamp), {})[what] = bytes(data)
    except Exception as error:  # a damaged bag can fail in any way inside the reader
        raise MaskomalyError(f'it cannot be read: {in_words(error)}') from error
    for (camera, stamp), parts in sorted(found.items()):
        if 'image' in parts:
            image = decode_picture(parts['image'], cameras[camera], _MAX_PIXELS)
            mask = decode_mask(parts['mask'], _MAX_PIXELS) if 'mask' in parts else None
            yield camera, stamp, image, mask


def _chosen(
    recording: Recording, stamps: dict[str, list[tuple[int, int]]], frames: int
) -> dict[str, set[int]]:
    """Return the stamps of the frames to export, by camera."""
    chosen: dict[str, set[int]] = {}
    for event in recording.events:
        own = [s for s, _ in stamps.get(event.camera, ()) if event.start_ns <= s <= event.end_ns]
        places = np.linspace(0, len(own) - 1, min(frames, len(own)))
        picked = [own[round(place)] for place in places.tolist()] or [event.peak_ns]
        nearest = min(range(len(picked)), key=lambda n: abs(picked[n] - event.peak_ns))
        picked[nearest] = event.peak_ns
        chosen.setdefault(event.camera, set()).update(picked)
    if not recording.events:
        moment = recording.causes[0].received_ns if recording.causes else recording.start_ns
        for camera, own_stamps in stamps.items():
            near = sorted(own_stamps, key=lambda each: abs(each[1] - moment))[:frames]
            chosen[camera] = {stamp for stamp, _ in near}
    return chosen


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding='utf-8')
    except OSError as error:
        raise MaskomalyError(f'cannot write {path}: {error.strerror}') from error
