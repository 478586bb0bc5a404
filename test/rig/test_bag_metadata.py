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

"""The cameras of a bag by its metadata."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from maskomaly_ros.errors import MaskomalyError
from maskomaly_ros.rig.bag_metadata import camera_topics

RAW, JPEG = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'


def bag_with(folder: Path, *topics: tuple[str, str]) -> Path:
    entries = [{'topic_metadata': {'name': name, 'type': kind}} for name, kind in topics]
    content = {'rosbag2_bagfile_information': {'topics_with_message_count': entries}}
    (folder / 'metadata.yaml').write_text(yaml.safe_dump(content), encoding='utf-8')
    return folder


def test_one_topic_for_each_camera_raw_before_compressed(tmp_path: Path) -> None:
    bag = bag_with(
        tmp_path,
        ('/rear/image_raw/compressed', JPEG),
        ('/front/image_raw/compressed', JPEG),
        ('/front/image_raw', RAW),
        ('/front/anomaly/mask', RAW),
        ('/depth/image/compressedDepth', JPEG),
        ('/tf', 'tf2_msgs/msg/TFMessage'),
    )
    assert camera_topics(bag) == ['/rear/image_raw/compressed', '/front/image_raw']


def test_a_bag_without_cameras_says_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(MaskomalyError, match=r'no image topic of a camera; it holds /tf \(tf2'):
        camera_topics(bag_with(tmp_path, ('/tf', 'tf2_msgs/msg/TFMessage')))


@pytest.mark.parametrize('text', [None, '', '[', 'a: b', 'rosbag2_bagfile_information: 3'])
def test_broken_metadata_are_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / 'metadata.yaml').write_text(text, encoding='utf-8')
    with pytest.raises(MaskomalyError, match='cannot read the topics of the bag'):
        camera_topics(tmp_path)


def test_a_single_file_is_asked_of_rosbag2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / 'drive.mcap'
    file.touch()
    monkeypatch.setitem(sys.modules, 'rosbag2_py', None)
    with pytest.raises(MaskomalyError, match='Give camera_topics'):
        camera_topics(file)
    topic = SimpleNamespace(name='/front/image_raw', type=RAW)
    metadata = SimpleNamespace(topics_with_message_count=[SimpleNamespace(topic_metadata=topic)])
    info = SimpleNamespace(read_metadata=lambda path, storage: metadata)
    monkeypatch.setitem(sys.modules, 'rosbag2_py', SimpleNamespace(Info=lambda: info))
    assert camera_topics(file) == ['/front/image_raw']
