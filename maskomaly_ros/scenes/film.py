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

"""From the colours of a picture to what a camera delivers."""

from __future__ import annotations

import cv2
import numpy as np

from maskomaly_ros.scenes import textures
from maskomaly_ros.scenes.conditions import Optics
from maskomaly_ros.scenes.raster import Bytes, Floats


def develop(colours: Floats, optics: Optics, rng: np.random.Generator) -> Bytes:
    """Return the picture that the camera's sensor, lens and encoder make of the colours."""
    height, width = colours.shape[:2]
    # Exposure, a soft shoulder for the bright parts and contrast act on each value alone.
    value = np.linspace(0, 2, 256)[:, None] * np.array(optics.balance) * optics.exposure
    value = value.clip(0, 1.6)
    value = value * (1 + 0.2 * value) / (1 + 0.2 * value * value)
    value = 255 * np.clip((value - 0.42) * optics.contrast + 0.42, 0, 1.1)
    image = cv2.LUT(cv2.convertScaleAbs(colours, alpha=0.5), value.astype(np.float32)[:, None])
    mix = np.full((3, 3), (1 - optics.saturation) / 3) + np.eye(3) * optics.saturation
    image = cv2.transform(image, mix)
    if optics.vignette:
        y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        x = np.linspace(-1, 1, width, dtype=np.float32)[None]
        image = cv2.multiply(
            image, cv2.merge([1 - np.float32(optics.vignette) * (x * x + y * y)] * 3)
        )
    sigma = optics.blur * height / 360
    if sigma > 0.25:
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    noise = textures.sensor_noise()
    if optics.noise and height < noise.shape[0] and width < noise.shape[1]:
        top = int(rng.integers(noise.shape[0] - height))
        left = int(rng.integers(noise.shape[1] - width))
        patch = noise[top : top + height, left : left + width]
        image = cv2.scaleAdd(np.ascontiguousarray(patch), optics.noise * 255, image)
    developed = np.asarray(cv2.convertScaleAbs(np.maximum(image, 0)), np.uint8)
    if optics.quality < 96:
        _, data = cv2.imencode('.jpg', developed, (cv2.IMWRITE_JPEG_QUALITY, optics.quality))
        developed = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return developed
