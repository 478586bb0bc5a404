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

"""Memory, temperature and throttling of a GPU, as far as the driver tells."""

from __future__ import annotations

import torch

# Bits of NVML's nvmlClocksEventReasons that slow a GPU down against its will; the others, such as
# idleness, are no trouble.
_THROTTLING = {
    0x4: 'software power cap',
    0x8: 'hardware slowdown',
    0x20: 'software thermal slowdown',
    0x40: 'hardware thermal slowdown',
    0x80: 'hardware power brake',
}


class Gpu:
    """What NVML says of one CUDA device; nothing where nvidia-ml-py or the driver is missing.

    Args:
        device: of torch; of another type than cuda there is nothing to say.

    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._handle = None
        if device.type != 'cuda':
            return
        try:
            import pynvml

            pynvml.nvmlInit()
            # By its identity, as CUDA_VISIBLE_DEVICES numbers devices anew for torch alone.
            uuid = torch.cuda.get_device_properties(device).uuid
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(f'GPU-{uuid}'.encode())
        except Exception:  # no library, no driver, no permission: the rest works without
            self._handle = None

    def values(self) -> dict[str, str]:
        """Return what is known now, by name; throttling is `none` or its reasons."""
        if self._device.type != 'cuda':
            return {}
        reserved = torch.cuda.memory_reserved(self._device)
        values = {'device memory (MB)': f'{reserved / 1e6:.0f}'}
        if self._handle is None:
            return values
        try:
            import pynvml

            sensor = pynvml.NVML_TEMPERATURE_GPU
            temperature = pynvml.nvmlDeviceGetTemperature(self._handle, sensor)
            values['GPU temperature (C)'] = str(temperature)
            bits = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle)
            reasons = [text for bit, text in _THROTTLING.items() if bits & bit]
            values['GPU throttling'] = ', '.join(reasons) or 'none'
        except Exception:  # a device may lack a sensor, or have fallen off the bus
            return values
        return values
