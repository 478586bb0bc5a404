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

"""`maskomaly events`, and the loop from a drive to a calibration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from recorder_fixtures import CAMERA, SECOND, START, Vehicle, image
from typer.testing import CliRunner

from maskomaly_ros.cli.main import app
from maskomaly_ros.recorder.page import ASKED_FOR

BOX = (20, 10, 12, 8)


def run(*arguments: Any, status: int = 0) -> str:
    done = CliRunner().invoke(app, ['events', *map(str, arguments)])
    assert done.exit_code == status, done.output
    return done.output


@pytest.fixture
def folder(vehicle: Vehicle) -> Path:
    """Return a folder with two recordings of obstacles, and one that somebody asked for."""
    recorder = vehicle.start()
    for score in (0.7, 0.9):
        vehicle.drive(1.5, BOX, score=score)
        vehicle.drive(4.0)
    recorder.fire('service', 'asked for', vehicle.received_ns)
    vehicle.drive(2.0)
    return vehicle.folder


def names(vehicle: Vehicle) -> list[str]:
    return [r.name for r in vehicle.catalogue.recordings()]


def test_table_and_filters(vehicle: Vehicle, folder: Path) -> None:
    first, second, third = names(vehicle)
    whole = run(folder)
    assert all(name[:15] in whole for name in (first, second, third))
    assert '3 recordings' in whole
    for arguments, count in (
        (['--camera', CAMERA], 2),
        (['--camera', '/rear'], 0),
        (['--cause', 'service'], 1),
        (['--least-score', '0.8'], 2),
        (['--least-novelty', '1.1'], 0),
        (['--since', '2100-01-01'], 0),
        (['--since', '2001-01-01T10:00+02:00'], 3),
        (['--pinned'], 0),
        ([first, second], 2),
    ):
        arguments = [*arguments] if arguments[0].startswith('--') else arguments
        assert f'{count} recordings' in run(folder, *arguments), arguments


def test_pin_and_delete(vehicle: Vehicle, folder: Path) -> None:
    first, second, third = names(vehicle)
    run(folder, '--delete', status=1)  # of everything, by mistake
    assert len(names(vehicle)) == 3
    run(folder, first, '--pin')
    assert '1 recordings' in run(folder, '--pinned')
    run(folder, first, '--unpin')
    assert '0 recordings' in run(folder, '--pinned')
    run(folder, '--cause', 'service', '--delete')
    assert names(vehicle) == [first, second]
    run(folder, second, '--delete')
    assert names(vehicle) == [first]
    from pyarrow import parquet

    index = parquet.read_table(folder / 'events.parquet').to_pylist()
    assert [row['bag'] for row in index] == [first]
    assert third != second


@pytest.mark.parametrize('name', ['../x', 'none', '/etc'])
def test_names_that_are_none_are_refused(vehicle: Vehicle, folder: Path, name: str) -> None:
    done = CliRunner().invoke(app, ['events', str(folder), name, '--delete'])
    assert done.exit_code == 1
    assert len(names(vehicle)) == 3


def test_the_page_has_the_table_and_the_viewer(vehicle: Vehicle, folder: Path) -> None:
    out = folder.parent / 'page.html'
    run(folder, '--html', out)
    text = out.read_text(encoding='utf-8')
    data = json.loads(text.partition('id="drive">')[2].partition('</script>')[0])
    assert [c['name'] for c in data['cameras']] == [CAMERA, ASKED_FOR]
    assert [round(e['score'], 2) for e in data['events']] == [0.7, 0.9, 0.0]
    assert data['pictures']['front.image_raw'].keys() == {'0', '1'}
    for name in names(vehicle):
        assert f'>{name}</td>' in text


@pytest.mark.slow
def test_the_page_works_in_a_browser(vehicle: Vehicle, folder: Path, browser: Any) -> None:
    out = folder.parent / 'page.html'
    run(folder, '--html', out)
    browser.get(out.as_uri())
    rows = browser.find_elements('css selector', 'table[aria-label="events"] tbody tr')
    assert len(rows) == 3
    rows[1].find_element('css selector', '.jump').click()
    shown = browser.find_element('id', 'shown').text
    assert shown.startswith(f'{CAMERA}, frame 1,')
    assert browser.find_element('id', 'frame').get_attribute('src').startswith('data:image/jpeg')
    assert [e for e in browser.get_log('browser') if 'frames/' not in e['message']] == []


def test_export_is_a_data_set_and_coco(vehicle: Vehicle, folder: Path) -> None:
    from maskomaly_ros.evaluation.datasets import open_dataset

    out = folder.parent / 'labels'
    said = run(folder, '--export', out, '--frames', '2')
    assert 'data set plain:' in said
    coco = json.loads((out / 'annotations.json').read_text())
    assert len(open_dataset(f'plain:{out}')) == len(coco['images']) == 2 * 2 + 2
    with_box = 0
    for found in coco['annotations']:
        assert found['bbox'] == list(BOX)
        assert found['area'] == BOX[2] * BOX[3]
        with_box += 1
    assert with_box == 4
    for each in coco['images']:
        name = Path(each['file_name']).stem
        label = cv2.imread(str(out / 'labels' / f'{name}.png'), cv2.IMREAD_UNCHANGED)
        picture = cv2.imread(str(out / 'images' / each['file_name']))
        assert (picture.shape[1], picture.shape[0]) == (each['width'], each['height'])
        is_red = (picture[..., 2] > 150) & (picture[..., 1] < 100)
        assert np.array_equal(label == 1, is_red)
    assert CliRunner().invoke(app, ['events', str(folder), '--export', str(out)]).exit_code == 1
    # Labels that were corrected elsewhere come back.
    for found in coco['annotations']:
        found['segmentation'] = [[0, 0, 3, 0, 3, 3, 0, 3]]
    (out / 'corrected.json').write_text(json.dumps(coco))
    run(folder, '--export', out, '--labels', out / 'corrected.json')
    label = cv2.imread(str(out / 'labels' / f'{Path(coco["images"][0]["file_name"]).stem}.png'), 0)
    assert label[:4, :4].all()
    assert label.sum() == 16
    coco['images'][0]['file_name'] = '../../x.png'
    (out / 'foreign.json').write_text(json.dumps(coco))
    done = CliRunner().invoke(
        app, ['events', str(folder), '--export', str(out), '--labels', str(out / 'foreign.json')]
    )
    assert done.exit_code == 1


@pytest.mark.slow
def test_the_loop_from_drive_to_calibration(
    vehicle: Vehicle, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """A generated drive, its events, labels that a person corrects, and a calibration of them."""
    from maskomaly_ros.queries import read_queries
    from maskomaly_ros.scenes.scene import Scene

    # Drive: the node takes a part of each obstacle, and something beside it, for obstacles.
    vehicle.start(minimum_seconds=[0.2], minimum_area=[10])
    truth: dict[int, Any] = {}
    for seed in (0, 1, 2):
        scene = Scene(seed, (96, 160), obstacles=True)
        for step in range(6):
            vehicle.now = round(vehicle.now + 0.1, 6)
            frame = scene.render(4.0 + 0.1 * step)
            truth[vehicle.received_ns] = frame.anomaly
            mask = np.zeros((96, 160), np.uint8)
            mask[60:75, 60:80] = 255
            place, stamp = '/front/anomaly', vehicle.received_ns
            vehicle.send(CAMERA, image(frame.image, stamp, 'rgb8'))
            vehicle.send(f'{place}/mask', image(mask, stamp, 'mono8'))
            heat = np.where(mask > 0, np.float32(0.9), np.float32(0))
            vehicle.send(f'{place}/heatmap', image(heat, stamp, '32FC1'))
            vehicle.recorder.step()
        vehicle.drive(4.0)
    assert len(names(vehicle)) == 3
    # Event to label.
    out = tmp_path / 'labels'
    run(vehicle.folder, '--least-score', 0.5, '--export', out, '--frames', 3)
    # A person corrects the labels.
    pictures = json.loads((out / 'annotations.json').read_text())['images']
    for each in pictures:
        path = out / 'labels' / f'{Path(each["file_name"]).stem}.png'
        cv2.imwrite(str(path), truth[each['stamp_ns']].astype(np.uint8))
    # Label to calibration.
    queries = tmp_path / 'queries.yaml'
    done = CliRunner().invoke(
        app,
        ['calibrate', '--dataset', f'plain:{out}', '--checkpoint', str(tiny_checkpoint),
         '--device', 'cpu', '--out', str(queries)],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert read_queries(queries).provenance['images'] == len(pictures) >= 6
    assert START < min(truth) < START + 100 * SECOND
