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

"""The command line: what it prints, writes and returns."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_networks import save_tiny_checkpoint

from maskomaly_ros import __version__
from maskomaly_ros.classes import CLASS_NAMES
from maskomaly_ros.cli import common
from maskomaly_ros.cli import main as cli
from maskomaly_ros.evaluation.datasets import LAYOUTS, open_dataset, write_plain
from maskomaly_ros.queries import Queries, read_queries, write_queries
from maskomaly_ros.scores import ON_REQUEST, SCORES


@pytest.fixture(scope='session')
def checkpoint(tmp_path_factory):
    """Return a checkpoint folder: random weights, 8 queries, the classes of the bundled one."""
    folder = tmp_path_factory.mktemp('checkpoints') / 'tiny'
    save_tiny_checkpoint(folder, CLASS_NAMES, (64, 128))
    return folder


@pytest.fixture
def images(tmp_path):
    """Return the folder of a data set of layout plain with three images."""
    folder = tmp_path / 'roads'
    random = np.random.default_rng(0)
    for index in range(3):
        label = np.zeros((64, 96), np.uint8)
        label[20:44, 20:60] = 1
        label[-5:] = 255
        image = random.integers(0, 256, (64, 96, 3), np.uint8)
        write_plain(folder, f'road{index}', image, label)
    return folder


@pytest.fixture
def run(capsys, monkeypatch):
    """Return a function that runs `maskomaly` here: exit status, stdout, stderr."""

    def call(*arguments):
        monkeypatch.setattr(sys, 'argv', ['maskomaly', *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        captured = capsys.readouterr()
        return end.value.code or 0, captured.out, captured.err

    return call


def python(code, *arguments):
    """Run code in a process of its own."""
    return subprocess.run(
        [sys.executable, '-c', code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)},
        check=False,
    )


def test_evaluate_prints_and_writes_all_methods(run, checkpoint, images, tmp_path):
    queries = tmp_path / 'queries.yaml'
    write_queries(
        queries,
        Queries(checkpoint='tiny', anomalous_queries=(3,), provenance={'dataset': 'roads'}),
    )
    report = tmp_path / 'new' / 'figures.json'
    status, out, _ = run(
        'evaluate',
        *('--checkpoint', checkpoint, '--dataset', f'plain:{images}', '--queries', queries),
        *('--device', 'cpu', '--components', '--json', report),
    )
    assert status == 0
    assert 'roads, 3 images, percent (queries were calibrated on this data set: no test)' in out
    content = json.loads(report.read_text())
    assert content['checkpoint'] == 'tiny'
    assert len(content['checkpoint_sha256']) == 64
    assert content['input_size'] == {'shortest': 64, 'longest': 128}
    assert content['parameters']['anomalous_queries'] == [3]
    (dataset,) = content['datasets']
    assert dataset['images'] == 3
    assert dataset['results'].keys() == SCORES.keys() - ON_REQUEST
    for method, found in dataset['results'].items():
        pixels = found['pixels']
        row = [f'{100 * pixels[name]:.2f}' for name in ('ap', 'fpr95', 'auroc', 'best_f1')]
        (line,) = (line for line in out.splitlines() if line.split()[:1] == [method])
        assert line.split()[1:5] == row
        assert line.split()[-1] == f'{pixels["best_f1_threshold"]:.4f}'
        assert found['components']['fn_25'] + found['components']['tp_25'] == 3


def test_scores_go_out_and_come_back_without_a_network(run, checkpoint, images, tmp_path):
    pytest.importorskip('h5py')
    scores, cache, tables = tmp_path / 'scores', tmp_path / 'outputs', tmp_path / 'tables.md'
    dataset = ('--dataset', f'plain:{images}')
    status, ours, _ = run(
        'evaluate',
        *dataset,
        *('--checkpoint', checkpoint, '--device', 'cpu', '--methods', 'rba,sml', '--cache', cache),
        *('--save-scores', scores, '--statistics', f'plain:{images}', '--markdown', tables),
    )
    assert status == 0
    assert len(list(scores.glob('*/roads/road?.hdf5'))) == 6
    assert len(list(cache.glob('tiny-*/*.safetensors'))) == 3
    assert 'sml: statistics of the classes from' in ours
    text = tables.read_text()
    assert text.startswith('# Figures of evaluation\n\nCheckpoint tiny, SHA-256 ')
    (row,) = (line for line in text.splitlines() if line.startswith('| rba |'))
    (printed,) = (line for line in ours.splitlines() if line.split()[:1] == ['rba'])
    assert row.replace('*', '').replace('|', ' ').split() == printed.split()
    assert '**' in text  # the best of each column

    status, theirs, _ = run(
        'evaluate', *dataset, '--methods', 'none', '--scores', f'other={scores / "rba"}'
    )
    assert status == 0
    (again,) = (line for line in theirs.splitlines() if line.split()[:1] == ['other'])
    assert again.split()[1:] == printed.split()[1:]
    (scores / 'rba' / 'roads' / 'road1.hdf5').unlink()
    status, _, err = run('evaluate', *dataset, '--methods', 'none', '--scores', scores / 'rba')
    assert status == 3  # done, with problems
    assert '1 of roads skipped: road1' in err
    status, _, err = run('evaluate', *dataset, '--methods', 'none', '--scores', f'x={scores}')
    assert status == 1
    assert 'has several methods, which cannot all be named x: rba, sml' in err


def test_evaluate_without_queries_leaves_accept_out(run, checkpoint, images, caplog):
    status, out, _ = run(
        'evaluate', '--checkpoint', checkpoint, '--dataset', f'plain:{images}', '--device', 'cpu'
    )
    assert status == 0
    assert 'maskomaly' in out
    assert '\n accept ' not in out
    assert '\n reject ' in out
    assert 'no queries file for checkpoint tiny' in caplog.text
    assert 'calibrated on' not in out


def test_evaluate_takes_methods_sizes_and_several_data_sets(run, checkpoint, images, tmp_path):
    for split in ('train', 'val'):
        (tmp_path / 'camvid' / split / 'labels').mkdir(parents=True)
        (tmp_path / 'camvid' / split / 'images').symlink_to(images / 'images')
        for index in range(3):
            path = tmp_path / 'camvid' / split / 'labels' / f'road{index}.png'
            assert cv2.imwrite(str(path), np.full((64, 96), 3, np.uint8))
    report = tmp_path / 'figures.json'
    status, out, _ = run(
        'evaluate',
        *('--checkpoint', checkpoint, '--device', 'cpu', '--json', report),
        *('--dataset', f'plain:{images}', '--methods', 'reject, baseline'),
        *('--dataset', f'camvid:{tmp_path / "camvid/val"}', '--input-size', '32x96'),
    )
    assert status == 0
    assert 'camvid/val, 3 images, percent' in out
    assert 'mean IoU' in out
    content = json.loads(report.read_text())
    assert content['input_size'] == {'shortest': 32, 'longest': 96}
    plain, camvid = content['datasets']
    assert plain['results'].keys() == {'reject', 'baseline'}
    iou = camvid['result']['iou']
    assert iou[1:] == [None] * 6  # NaN has no place in JSON
    assert f'{100 * iou[0]:.2f}' in out


def test_skipped_images_make_the_status_3(run, checkpoint, images):
    (images / 'labels' / 'road1.png').unlink()
    (images / 'images' / 'road2.png').write_bytes(b'broken')
    status, out, err = run(
        'evaluate', '--checkpoint', checkpoint, '--dataset', f'plain:{images}', '--device', 'cpu'
    )
    assert status == 3
    assert 'roads, 1 images' in out
    assert '2 of roads skipped: road1, road2' in err


def test_calibrate_writes_what_evaluate_reads(run, checkpoint, images, tmp_path, caplog):
    queries = tmp_path / 'queries' / 'tiny.yaml'
    dataset = f'plain:{images}'
    common = ('--checkpoint', checkpoint, '--dataset', dataset, '--device', 'cpu')
    status, out, _ = run('calibrate', *common, '--out', queries, '--iou-threshold', '0.05')
    assert status == 0
    assert f'Written to {queries}' in out
    assert 'which are no test any more' in out
    assert 'Mean AP of 3 parts of the images' in out
    found = read_queries(queries)
    assert found.anomalous_queries
    assert found.provenance['dataset'] == 'roads'

    report = tmp_path / 'figures.json'
    status, out, _ = run('evaluate', *common, '--queries', queries, '--json', report)
    assert status == 0
    assert 'no test' in out
    assert 'calibrate again' not in caplog.text  # the hash is that of this checkpoint
    pixels = json.loads(report.read_text())['datasets'][0]['results']['maskomaly']['pixels']
    figures = found.provenance['calibration_figures']
    assert figures['ap'] == pytest.approx(pixels['ap'], abs=1e-4)
    assert figures['best_f1'] == pytest.approx(pixels['best_f1'], abs=1e-4)


def test_calibrate_warns_of_what_may_be_regretted(run, checkpoint, images, tmp_path, caplog):
    queries = tmp_path / 'tiny.yaml'
    common = ('--checkpoint', checkpoint, '--dataset', f'plain:{images}', '--device', 'cpu')
    calibrate = ('calibrate', *common, '--out', queries, '--iou-threshold', '0.05')
    status, out, err = run(*calibrate, '--json', '-')
    assert status == 0
    assert 'overwritten' not in err
    assert '3 images of roads with anomalies are few' in caplog.text
    content = json.loads(out)  # nothing else is on standard output
    assert content['file'] == str(queries)
    assert content['queries']['provenance']['images'] == 3
    status, _, err = run('--quiet', *calibrate)
    assert status == 0
    assert f'{queries} exists, and will be overwritten' in err
    caplog.clear()
    evaluate = ('evaluate', *common, '--queries', queries, '--methods', 'reject')
    run(*evaluate)
    assert 'calibrated at input size' not in caplog.text
    run(*evaluate, '--input-size', '96x192')
    assert 'were calibrated at input size 64x128, and the network runs at 96x192' in caplog.text


def test_json_on_standard_output_stands_alone_and_progress_is_told(
    run, checkpoint, images, monkeypatch
):
    monkeypatch.setattr(common, 'LINE_SECONDS', 0.0)
    status, out, err = run(
        'evaluate', '--checkpoint', checkpoint, '--dataset', f'plain:{images}',
        '--device', 'cpu', '--methods', 'reject', '--json', '-',
    )  # fmt: skip
    assert status == 0
    assert json.loads(out)['datasets'][0]['dataset'] == 'roads'
    assert err == ''.join(f'roads: scores: {n} of 3\n' for n in (1, 2, 3))


def test_lines_for_files_are_not_wrapped(run, checkpoint, tmp_path):
    long = tmp_path / ('long ' * 30).strip()
    status, out, _ = run('generate', '--out', long, '--frames', '1', '--size', '64x48')
    assert status == 0
    assert out == f'Data set: plain:{long}\n'
    status, out, _ = run('checkpoint', 'info', checkpoint)
    assert f'path               {checkpoint}\n' in out


def test_checkpoints_are_listed_and_described_as_json(run, checkpoint):
    status, out, _ = run('checkpoint', 'info', checkpoint, '--json', '-')
    assert status == 0
    assert json.loads(out)['path'] == str(checkpoint)
    status, out, _ = run('checkpoint', 'list', '--json', '-')
    assert status == 0
    demo, *published = json.loads(out)['checkpoints']
    assert (demo['name'], demo['here']) == ('demo', True)
    assert all(each['mIoU %'] > 50 for each in published)
    status, out, _ = run('checkpoint', 'list')
    assert {'demo', *(each['name'] for each in published)} <= set(out.split())


def test_calibrate_moves_a_threshold_by_an_unlabelled_drive(run, checkpoint, images, tmp_path):
    queries = tmp_path / 'queries.yaml'
    before = Queries(checkpoint='tiny', anomalous_queries=(3,), obstacle_threshold=0.01)
    write_queries(queries, before)
    common = ('calibrate', '--checkpoint', checkpoint, '--device', 'cpu', '--queries', queries)
    drive = ('--ordinary-drive', images / 'images')
    status, out, err = run(*common, *drive, '--false-alarms', '1/frame')
    assert status == 0, err
    moved = read_queries(queries)
    assert moved.scoring_parameters() == before.scoring_parameters()
    about = moved.provenance['false_alarms']
    assert about['found'] <= about['allowed'] == about['frames'] == 3
    assert f'0.0100 -> {moved.obstacle_threshold:.4f}' in out
    assert f'Written to {queries}' in out

    other = tmp_path / 'other.yaml'
    status, out, _ = run(
        *common, '--ordinary', images / 'images', '--false-alarms', '1/frame', '--out', other,
        '--dataset', f'plain:{images}',
    )  # fmt: skip
    assert status == 0
    assert 'Anomalous pixels of roads above it' in out
    assert read_queries(other).obstacle_threshold == moved.obstacle_threshold

    for more, message in (
        ((*drive, '--false-alarms', '1/min'), '3 frames (0.3 s) are too few for 1/minute'),
        (drive, 'a threshold needs a rate'),
        (('--false-alarms', '1/min'), '--false-alarms needs --ordinary-drive or --ordinary'),
        ((*drive, '--false-alarms', 'few'), "'few' is no rate of false alarms"),
        (
            ('--ordinary', images / 'images', '--false-alarms', '1/min'),
            'need frames with times',
        ),
    ):
        status, _, err = run(*common, *more)
        assert status == 1
        assert message in ' '.join(err.split())
    write_queries(queries, before.model_copy(update={'checkpoint_sha256': '0' * 64}))
    status, _, err = run(*common, *drive, '--false-alarms', '1/frame')
    assert status == 1
    assert 'belongs to weights 000000000000' in err
    assert run('calibrate', '--out', other)[0] == 1


def test_other_scores_are_calibrated_and_their_thresholds_moved(run, checkpoint, images, tmp_path):
    queries, scaled = tmp_path / 'queries.yaml', tmp_path / 'scaled.yaml'
    before = Queries(checkpoint='tiny', anomalous_queries=(3,), obstacle_threshold=0.25)
    write_queries(queries, before)
    common = ('--checkpoint', checkpoint, '--device', 'cpu', '--queries', queries)
    ordinary = ('--ordinary', images / 'images')
    status, out, err = run(
        'calibrate-scores', *common, *ordinary, '--out', scaled, '--scores', 'rba, entropy,sml'
    )
    assert status == 0, err
    known = read_queries(scaled)
    assert set(known.scores) == {'rba', 'entropy', 'sml'}
    assert 'rba: obstacle_threshold' in out
    common = ('--checkpoint', checkpoint, '--device', 'cpu', '--queries', scaled)
    status, out, err = run(
        'calibrate', *common, *ordinary, '--false-alarms', '1/frame', '--score', 'sml'
    )
    assert status == 0, err
    moved = read_queries(scaled)
    assert (moved.score, moved.obstacle_threshold) == ('sml', 0.25)
    assert moved.scores['rba'] == known.scores['rba']
    threshold = moved.scores['sml'].obstacle_threshold
    assert f'sml: obstacle_threshold {known.scores["sml"].obstacle_threshold:.4f} -> ' in out
    assert f'-> {threshold:.4f}' in out
    assert moved.provenance['false_alarms']['score'] == 'sml'
    # One that has no scale yet gets it by the way.
    status, _, err = run(
        'calibrate', *common, *ordinary, '--false-alarms', '1/frame', '--score', 'energy'
    )
    assert status == 0, err
    assert read_queries(scaled).scores['energy'].raw
    status, _, err = run('calibrate', *common, '--score', 'mine', '--false-alarms', '1/min')
    assert status != 0
    write_queries(queries, before.model_copy(update={'checkpoint_sha256': '0' * 64}))
    common = ('--checkpoint', checkpoint, '--device', 'cpu', '--queries', queries)
    status, _, err = run('calibrate-scores', *common, *ordinary, '--out', scaled)
    assert status == 1
    assert 'belongs to weights 000000000000' in ' '.join(err.split())


def test_evaluate_counts_false_obstacles_on_ordinary_frames(run, checkpoint, images, tmp_path):
    pytest.importorskip('matplotlib')
    queries, figures = tmp_path / 'queries.yaml', tmp_path / 'figures.json'
    write_queries(queries, Queries(checkpoint='tiny', obstacle_threshold=0.4))
    report, text = tmp_path / 'report.html', tmp_path / 'tables.md'
    common = ('evaluate', '--checkpoint', checkpoint, '--device', 'cpu', '--queries', queries)
    status, out, err = run(
        *common, '--dataset', f'plain:{images}', '--ordinary', images / 'images',
        '--methods', 'maskomaly,sml', '--json', figures, '--report', report, '--markdown', text,
        '--minimum-obstacle-area', '5',
    )  # fmt: skip
    assert status == 0, err
    assert 'roads with ordinary frames, percent' in out
    assert 'Ordinary frames at the threshold 0.4000, obstacles of at least 5 pixels' in out
    assert 'sml: statistics of the classes from images' in out
    content = json.loads(figures.read_text())
    assert content['ordinary']['frames'] == 3
    found = content['datasets'][0]['results']['maskomaly']
    assert (
        found['at_threshold']['false_obstacles'] == content['ordinary']['false_obstacles_a_frame']
    )
    assert found['pooled']['ap'] <= found['pixels']['ap']
    assert content['datasets'][0]['results']['sml']['at_threshold'] is None
    assert 'the worst frames' in report.read_text()
    assert '| pooled AP |' in text.read_text()

    status, out, _ = run(*common, '--ordinary', images / 'images', '--ordinary', f'plain:{images}')
    assert status == 1  # every frame of the second one shows an anomaly
    status, out, _ = run(*common, '--ordinary', images / 'images', '--report', report)
    assert status == 0
    assert 'AP' not in out
    for arguments, message in (
        ((), 'give --dataset, --ordinary, or both'),
        (('--ordinary', images, '--methods', 'none'), '--ordinary needs a network'),
        (('--ordinary', tmp_path / 'nothing'), 'does not exist'),
    ):
        status, _, err = run(*common, *arguments)
        assert status == 1
        assert message in ' '.join(err.split())


def test_generate_writes_a_data_set(run, tmp_path):
    out = tmp_path / 'clips'
    arguments = ('generate', '--out', out, '--size', '96x64', '--frames', '2', '--clips', '2')
    status, text, _ = run(*arguments, '--seed', '7', '--rate', '1')
    assert status == 0
    assert f'plain:{out}' in text
    dataset = open_dataset(f'plain:{out}')
    names = ['00007_00000', '00007_00001', '00008_00000', '00008_00001']
    assert [sample.name for sample in dataset.samples] == names
    for _, image, label in dataset.read():
        assert image.shape == (64, 96, 3)
        assert set(np.unique(label)) <= {0, 1, 255}
    status, _, err = run(*arguments)
    assert status == 1
    assert 'exists and is no empty folder' in err


def test_train_passes_what_was_given(run, monkeypatch, tmp_path):
    from maskomaly_ros.training import train as training

    calls = []

    def train(*arguments, **options):
        calls.append((*arguments, options))
        return tmp_path / 'model'

    monkeypatch.setattr(training, 'train', train)
    status, out, _ = run(
        'train', '--data', tmp_path, '--out', tmp_path, '--steps', 3, '--device', 'cpu'
    )
    assert status == 0
    assert f'Checkpoint: {tmp_path / "model"}' in out
    options = training.TrainingOptions(steps=3)
    ((*arguments, given),) = calls
    assert arguments == [tmp_path, tmp_path, options]
    assert given == {
        'device': 'cpu',
        'backbone_weights': None,
        'save_every': 100,
        'keep_every': None,
    }


def test_demo_passes_what_was_given(run, monkeypatch, tmp_path):
    demo = pytest.importorskip('maskomaly_ros.demo.run')
    calls = []
    monkeypatch.setattr(demo, 'run_demo', lambda *a, **k: calls.append((a, k)))
    status, *_ = run('demo', '--out', tmp_path, '--source', 'clip.mp4', '--frames', 5)
    assert status == 0
    ((arguments, options),) = calls
    assert arguments == (tmp_path, Path('clip.mp4'))
    assert options.pop('console') is not None
    assert options == {'checkpoint': 'demo', 'topic': None, 'frames': 5, 'scenes': demo.SCENES}


def test_demo_takes_scenes(run, monkeypatch, tmp_path):
    demo = pytest.importorskip('maskomaly_ros.demo.run')
    calls = []
    monkeypatch.setattr(demo, 'run_demo', lambda *a, **k: calls.append(k['scenes']))
    assert run('demo', '--out', tmp_path, '--scenes', '3,14')[0] == 0
    assert calls == [(3, 14)]
    status, _, error = run('demo', '--out', tmp_path, '--scenes', '3;14')
    assert status == 1
    assert "'3;14'" in error


def test_version(run):
    status, out, _ = run('version')
    assert status == 0
    assert out.splitlines()[0] == f'maskomaly_ros {__version__}'


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['evaluate', '--dataset', 'plain:/not/there'], '/not/there does not exist'),
        (['evaluate', '--dataset', 'nonsense'], "'nonsense' is not LAYOUT:PATH"),
        (['calibrate', '--dataset', 'plain:/not/there', '--out', 'q'], 'does not exist'),
        (['generate', '--out', 'x', '--size', 'large'], "size 'large' is not WIDTHxHEIGHT"),
        (['generate', '--out', 'x', '--size', '0x64'], 'must be above 0'),
        (['generate', '--out', 'x', '--rate', '0'], 'rate 0 must be above 0'),
    ],
)
def test_errors_are_one_line_and_status_1(run, arguments, message):
    status, out, err = run(*arguments)
    assert status == 1
    assert err.startswith('Error: ')
    assert message in err
    assert err.count('\n') == 1
    assert not out


def test_wrong_networks_and_queries_are_refused(run, checkpoint, images, tmp_path):
    base = ('evaluate', '--dataset', f'plain:{images}', '--device', 'cpu')
    queries = tmp_path / 'queries.yaml'
    write_queries(queries, Queries(checkpoint='other', anomalous_queries=(83,)))
    for arguments, message in (
        (('--checkpoint', tmp_path / 'none'), 'none'),
        (('--checkpoint', checkpoint, '--input-size', '10'), "size '10' is not SHORTESTxLONGEST"),
        (('--checkpoint', checkpoint, '--queries', queries), 'has query 83'),
        (('--checkpoint', checkpoint, '--methods', 'magic'), "'magic' is none of maskomaly"),
        (('--checkpoint', checkpoint, '--json', images), 'is a folder'),
    ):
        status, _, err = run(*base, *arguments)
        assert status == 1, arguments
        assert 'Error: ' in err
        assert message in err
    calibrate = ('calibrate-scores', '--ordinary', images / 'images', '--device', 'cpu')
    given = ('--checkpoint', checkpoint, '--queries', queries, '--out', tmp_path / 'out.yaml')
    status, _, err = run(*calibrate, *given)
    assert (status, 'has query 83' in err) == (1, True)


def test_usage_errors_have_status_2(run):
    assert run('evaluate', '--magic')[0] == 2
    assert run('nonsense')[0] == 2


@pytest.mark.parametrize('rate', ['nan', 'inf', '0', '-1'])
def test_rate_that_is_none_is_refused(run, tmp_path, rate):
    status, _, err = run('generate', '--out', tmp_path / 'out', '--rate', rate)
    assert status == 1
    assert 'must be above 0' in err


def test_folder_in_place_of_a_file_is_refused_before_the_work(run, checkpoint, images, tmp_path):
    common = ('--checkpoint', checkpoint, '--dataset', f'plain:{images}', '--device', 'cpu')
    for arguments in (
        ('calibrate', *common, '--out', tmp_path),
        ('evaluate', *common, '--json', tmp_path),
        ('evaluate', *common, '--markdown', tmp_path),
        ('benchmark', '--checkpoint', checkpoint, '--device', 'cpu', '--out', tmp_path),
    ):
        status, out, err = run(*arguments)
        assert (status, out) == (1, '')
        assert 'is a folder; give the name of a file' in ' '.join(err.split())


def test_output_that_cannot_be_written_is_an_error():
    with Path('/dev/full').open('w') as full:
        result = subprocess.run(
            [sys.executable, '-c', 'from maskomaly_ros.cli.main import main; main()', 'version'],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=120,
        )  # fmt: skip
    assert result.returncode == 1
    assert 'Traceback' not in result.stderr
    assert 'cannot write the output' in result.stderr


def test_version_and_help_are_short_options_too(run):
    assert run('--version')[1].startswith('maskomaly_ros ')
    assert 'Usage' in run('-h')[1]
    assert 'Usage' in run('replay', '-h')[1]
    assert run('--quiet', 'version')[:2] == (0, '')


def test_ctrl_c_that_an_import_swallows_ends_the_program(tmp_path):
    (tmp_path / 'swallows.py').write_text(
        'import os, signal\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\n'
        'except KeyboardInterrupt:\n    pass\n'
    )
    code = (
        f'import sys; sys.path.insert(0, {str(tmp_path)!r}); from maskomaly_ros.cli import main;'
        'from maskomaly_ros.scenes import scene\n'
        'def clip(*a, **k):\n    import swallows\n    raise SystemExit(0)\n'
        'scene.generate_clip = clip; main.main()'
    )
    assert python(code, 'generate', '--out', str(tmp_path / 'new')).returncode == 130


@pytest.mark.parametrize(
    'where',
    [
        'from maskomaly_ros.scenes import scene; scene.generate_clip',  # in a command
        'cli.app',  # before it
    ],
)
def test_ctrl_c_has_status_130(where):
    """A signal ends a command without traceback."""
    code = (
        'import os, signal; from maskomaly_ros.cli import main as cli;'
        f'{where} = lambda *a, **k: os.kill(os.getpid(), signal.SIGINT);'
        'cli.main()'
    )
    result = python(code, 'generate', '--out', 'never-written')
    assert result.returncode == 130
    assert 'Traceback' not in result.stderr


def test_help_is_light_and_names_what_there_is(run):
    code = (
        'import sys; from maskomaly_ros.cli import main as cli;'
        "print({'torch', 'transformers', 'cv2', 'numpy', 'rclpy'} & set(sys.modules))"
    )
    result = python(code)
    assert result.stdout.strip() == 'set()'
    status, out, _ = run('--help')
    assert status == 0
    for command in ('evaluate', 'calibrate', 'train', 'demo', 'generate', 'version'):
        assert command in out
    _, out, _ = run('evaluate', '--help')
    assert {*SCORES, *LAYOUTS} <= set(re.findall(r'[\w+-]+', out))


def test_compare_writes_tables_and_goes_on_where_it_was(run, checkpoint, images, tmp_path):
    traffic = tmp_path / 'traffic'
    traffic.mkdir()
    for index in range(2):
        picture = np.full((64, 96, 3), 40 * index, np.uint8)
        assert cv2.imwrite(str(traffic / f'{index}.png'), picture)
    out = tmp_path / 'comparison'
    options = (
        *('compare', '--checkpoint', checkpoint, '--dataset', f'plain:{images}'),
        *('--ordinary', traffic, '--scores', 'maskomaly,rba', '--device', 'cpu', '--out', out),
    )
    status, shown, _ = run(*options)
    assert status == 0
    assert 'tiny on roads: 3 images, 2 ordinary frames (traffic)' in shown
    (found,) = json.loads((out / 'comparison.json').read_text())
    assert list(found['datasets']['roads']['scores']) == ['maskomaly', 'rba']
    for name in ('comparison.md', 'comparison.html'):
        assert 'rba' in (out / name).read_text()
    figures = tmp_path / 'figures.json'
    assert run(*options, '--json', figures)[0] == 0
    assert json.loads(figures.read_text()) == [found]
    (kept,) = out.glob('tiny-*.json')
    changed = json.loads(kept.read_text())
    changed['datasets']['roads']['scores']['rba']['ap']['value'] = 0.123
    kept.write_text(json.dumps(changed))
    assert run(*options)[0] == 0
    (again,) = json.loads((out / 'comparison.json').read_text())
    assert again == changed  # not measured again
    assert run(*options, '--minimum-obstacle-area', '3')[0] == 0
    (other,) = json.loads((out / 'comparison.json').read_text())
    assert other['datasets']['roads']['scores']['rba']['ap']['value'] != 0.123
    assert len(list((out / 'outputs').rglob('*.safetensors'))) == 5
    status, _, error = run(*options, '--queries', tmp_path / 'a', '--queries', tmp_path / 'b')
    assert status == 1
    assert '2 queries files for 1 checkpoints' in error
