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
"""The SROS 2 policy allows what the node does, and nothing else."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from maskomaly_ros.rig.processes import free_domain
from maskomaly_ros.share import share_directory

pytest.importorskip('rclpy')

# Published only where vision_msgs or foxglove_msgs is installed; TF is listened to where tf2_ros
# is; either of the two camera topics is enough; and only newer releases of rclpy have the service.
OPTIONAL = {
    '/camera/anomaly/annotations',
    '/camera/anomaly/label_info',
    '/tf',
    '/tf_static',
    '/camera/anomaly/obstacles',
    '/camera/image_raw/compressed',
    '/maskomaly/get_type_description',
}


@pytest.fixture(scope='module')
def profile() -> ElementTree.Element:
    root = ElementTree.parse(share_directory() / 'config' / 'sros2' / 'policy.xml').getroot()
    assert (root.tag, root.attrib) == ('policy', {'version': '0.2.0'})
    (profile,) = root.findall('enclaves/enclave/profiles/profile')
    assert profile.attrib == {'ns': '/', 'node': 'maskomaly'}
    return profile


def allowed(profile: ElementTree.Element, kind: str, use: str) -> set[str]:
    names = [e.text or '' for rule in profile.findall(f'{kind}s[@{use}="ALLOW"]') for e in rule]
    assert names == [e.text for rule in profile.findall(f'{kind}s[@{use}]') for e in rule]
    assert len(names) == len(set(names))
    return {name.replace('~', '/maskomaly', 1) for name in names}


@pytest.fixture
def domain() -> int:
    """Return a domain of its own, in which no other node has the name of ours."""
    return free_domain()


def test_policy_is_what_a_running_node_has(ros: Any, profile: ElementTree.Element) -> None:
    from rclpy.node import NodeNameNonExistentError

    ros.maskomaly('/camera/image_raw')

    def names(kind: str) -> set[str]:
        find = getattr(ros.node, f'get_{kind}_names_and_types_by_node')
        try:
            return {name for name, _ in find('maskomaly', '/')}
        except NodeNameNonExistentError:  # not discovered yet
            return set()

    for kind, use, entity in (
        ('topic', 'subscribe', 'subscriber'),
        ('topic', 'publish', 'publisher'),
        ('service', 'reply', 'service'),
    ):
        granted = allowed(profile, kind, use)
        ros.spin_until(lambda e=entity, g=granted: g - OPTIONAL <= names(e), f'all {entity}s')
        assert names(entity) <= granted
    assert names('client') == set()
