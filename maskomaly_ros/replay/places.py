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

"""Where obstacles of a recording are, from calibrations, transforms and depth recorded with it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskomaly_ros.detector import Detection
from maskomaly_ros.drives.source import Source, SourceFrame
from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.ground import CameraModel, Located, Locator, decode_depth
from maskomaly_ros.ground.frames import Frames
from maskomaly_ros.parameters import GroundSettings, load_settings, locator_parameters
from maskomaly_ros.replay.depths import DepthImages
from maskomaly_ros.topics import absolute_topic, camera_info_topic, is_rectified, outputs_of

_LOG = logging.getLogger(__name__)

# A transform that is heard at all is heard early, and all but a few are static.
_MOST_TRANSFORMS = 2000
_STATIC, _MOVING = '/tf_static', '/tf'


class Places:
    """What is known of the place of each camera of a replay.

    Args:
        source: a bag may have `camera_info`, `/tf` and `/tf_static`; nothing is known of the
            cameras of other sources.
        cameras: their topics.
        values: of all parameters, see `DEFAULTS`.

    Raises:
        MaskomalyError: a parameter is wrong, or is given, but not for a camera.

    """

    def __init__(self, source: Source, cameras: Iterable[str], values: Mapping[str, Any]) -> None:
        self._parameters = locator_parameters(values)
        self._locators: dict[tuple[str, str, tuple[int, int]], Locator | None] = {}
        self._said: set[str] = set()
        self._grounds = _by_camera(tuple(cameras), values)
        self._infos: dict[str, Any] = {}
        self._frames = Frames()
        topics = {camera: self._info_topic(camera) for camera in self._grounds}
        found = source.first_messages(set(topics.values()))
        self._infos = {c: found[topic] for c, topic in topics.items() if topic in found}
        if self._infos:
            self._read_transforms(source)
        self._depths = {
            camera: DepthImages(source, absolute_topic(topic), values['depth_tolerance'])
            for camera in self._infos
            if (topic := self._grounds[camera].depth_topic)
        }

    def locate(
        self, camera: str, frame: SourceFrame, detection: Detection
    ) -> tuple[Detection, Located | None]:
        """Return a detection whose obstacles have ranges, and where they are, if that is known."""
        if camera not in self._infos:
            return detection, None
        height, width = detection.frame.shape[:2]
        key = camera, frame.frame_id, (height, width)
        if key not in self._locators:
            try:
                self._locators[key] = self._locator(*key)
            except MaskomalyError as error:
                self._say(camera, error)
                self._locators[key] = None
        locator = self._locators[key]
        if locator is None:
            return detection, None
        try:
            located = locator.locate(detection.components, self._depth(camera, frame, key[2]))
        except MaskomalyError as error:
            self._say(camera, error)
            return detection, None
        components = replace(detection.components, obstacles=located.obstacles)
        return detection.with_components(components), located

    def _say(self, camera: str, error: MaskomalyError) -> None:
        """Log why there are no places, once for each camera and reason."""
        if str(error) not in self._said:
            self._said.add(str(error))
            _LOG.warning('%s: no places: %s', camera, error)

    def _depth(
        self, camera: str, frame: SourceFrame, size: tuple[int, int]
    ) -> NDArray[np.float32] | None:
        images = self._depths.get(camera)
        message = images.of(frame) if images else None
        return None if message is None else decode_depth(message, size)

    def _info_topic(self, camera: str) -> str:
        given = self._grounds[camera].info_topic
        return absolute_topic(given) if given else camera_info_topic(camera)

    def _locator(self, camera: str, frame_id: str, size: tuple[int, int]) -> Locator:
        model = CameraModel.from_info(self._infos[camera], is_rectified=is_rectified(camera))
        settings = self._grounds[camera]
        pose = settings.mounting
        if pose is None:
            try:
                pose = self._frames.pose(frame_id, settings.target_frame, settings.ground_height)
            except MaskomalyError:
                if camera not in self._depths:  # which needs no ground
                    raise
        return Locator(model.for_size(size), pose, self._parameters)

    def _read_transforms(self, source: Source) -> None:
        for topic in (_STATIC, _MOVING):
            for message in source.messages_of(topic, _MOST_TRANSFORMS):
                for stamped in message.transforms:
                    moved, turned = stamped.transform.translation, stamped.transform.rotation
                    try:
                        self._frames.add(
                            stamped.header.frame_id,
                            stamped.child_frame_id,
                            (moved.x, moved.y, moved.z),
                            (turned.x, turned.y, turned.z, turned.w),
                        )
                    except MaskomalyError as error:
                        _LOG.warning('%s to %s: %s', topic, stamped.child_frame_id, error)


def _by_camera(cameras: tuple[str, ...], values: Mapping[str, Any]) -> dict[str, GroundSettings]:
    """Return the settings of each camera; those that no parameter is for ask TF."""
    settings = load_settings(values)
    known = {
        outputs_of(absolute_topic(topic)): ground
        for topic, ground in zip(settings.camera_topics, settings.grounds, strict=True)
    }
    plain = GroundSettings(
        target_frame=values['target_frame'], ground_height=values['ground_height']
    )
    missing = [camera for camera in cameras if outputs_of(camera) not in known]
    if missing and any(ground != plain for ground in known.values()):
        raise MaskomalyError(
            f'camera_height and camera_info_topics belong to camera_topics '
            f'{", ".join(settings.camera_topics)}, and {", ".join(missing)} is not among them; '
            'name it there'
        )
    return {camera: known.get(outputs_of(camera), plain) for camera in cameras}
