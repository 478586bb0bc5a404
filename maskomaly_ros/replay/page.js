'use strict';

const drive = JSON.parse(document.getElementById('drive').textContent);
const cameras = drive.cameras;
const whole = [0, Math.max(0.001, ...cameras.map((camera) => camera.seconds.reduce((a, b) => Math.max(a, b), 0)))];
let view = [...whole]; // seconds at the left and the right edge of all timelines
let selected = null; // { camera, place }

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const canvases = [...document.querySelectorAll('.timeline canvas')];
const LEFT = 34, TOP = 8, LANE = 6; // room for the scale; height of a bar of an event, with its gap
// Events and time stand below the score.
const bottom = (camera) => 28 + LANE * camera.lanes;
canvases.forEach((canvas, number) => { canvas.style.height = `${116 + bottom(cameras[number])}px`; });

// The place in sorted numbers whose value is nearest.
function nearest(numbers, value) {
  let low = 0, high = numbers.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (numbers[middle] < value) low = middle; else high = middle;
  }
  return Math.abs(numbers[low] - value) <= Math.abs(numbers[high] - value) ? low : high;
}

function draw() {
  const [text, muted, line, accent] = ['--text', '--muted', '--line', '--accent'].map(style);
  canvases.forEach((canvas, number) => {
    const camera = cameras[number];
    const scale = window.devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    canvas.width = width * scale;
    canvas.height = height * scale;
    const pen = canvas.getContext('2d');
    pen.scale(scale, scale);
    pen.font = '11px sans-serif';
    const floor = height - bottom(camera);
    const x = (seconds) => LEFT + (seconds - view[0]) / (view[1] - view[0]) * (width - LEFT - 6);
    const y = (score) => floor - score * (floor - TOP);

    pen.fillStyle = muted;
    pen.strokeStyle = line;
    pen.textAlign = 'right';
    for (const score of [0, 0.5, 1]) {
      pen.fillText(score, LEFT - 6, y(score) + 4);
      pen.beginPath();
      pen.moveTo(LEFT, y(score) + 0.5);
      pen.lineTo(width, y(score) + 0.5);
      pen.stroke();
    }
    pen.textAlign = 'center';
    const rough = (view[1] - view[0]) / Math.max(2, width / 110);
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
    for (let t = Math.ceil(view[0] / step) * step; t <= view[1] + 1e-9; t += step) {
      pen.fillText(`${+t.toFixed(3)} s`, Math.min(x(t), width - 16), height - 6);
      pen.fillRect(x(t), floor, 1, 4);
    }

    pen.save();
    pen.beginPath();
    pen.rect(LEFT, 0, width - LEFT, height);
    pen.clip();
    // Where frames are closer than pixels, each column shows its lowest and highest score.
    const columns = new Map();
    const points = [];
    camera.seconds.forEach((seconds, place) => {
      const at = x(seconds);
      if (at < LEFT - 50 || at > width + 50) return;
      points.push([at, y(camera.score[place])]);
      const column = Math.round(at);
      const range = columns.get(column) ?? [1, 0];
      columns.set(column, [Math.min(range[0], camera.score[place]), Math.max(range[1], camera.score[place])]);
    });
    // Below the score, how much of the frame is obstacle, on a scale of its own.
    const largest = camera.area.reduce((a, b) => Math.max(a, b), 1);
    pen.fillStyle = 'rgb(217 72 15 / 25%)';
    const bar = Math.max(1, (width - LEFT - 6) / (camera.seconds.length * (whole[1] - whole[0]) / (view[1] - view[0])));
    camera.seconds.forEach((seconds, place) => {
      const at = x(seconds);
      if (camera.area[place] && at > LEFT - bar && at < width + bar) {
        const top = y(camera.area[place] / largest);
        pen.fillRect(at - bar / 2, top, bar, floor - top);
      }
    });
    pen.strokeStyle = pen.fillStyle = accent;
    if (points.length > 2 * width) {
      for (const [column, [low, high]] of columns) {
        pen.fillRect(column, y(high), 1, Math.max(1, y(low) - y(high)));
      }
    } else {
      pen.lineWidth = 1.3;
      pen.beginPath();
      points.forEach(([at, score], place) => (place ? pen.lineTo(at, score) : pen.moveTo(at, score)));
      pen.stroke();
      if (points.length < width / 8) {
        for (const [at, score] of points) pen.fillRect(at - 1.5, score - 1.5, 3, 3);
      }
    }
    const [leastScore, leastArea] = limits();
    pen.fillStyle = '#d9480f';
    for (const event of drive.events) {
      if (event.camera !== number || event.score < leastScore || event.area < leastArea) continue;
      const top = floor + 6 + LANE * event.lane;
      pen.fillRect(x(event.start), top, Math.max(2, x(event.end) - x(event.start)), LANE - 1);
    }
    if (selected) {
      const at = x(cameras[selected.camera].seconds[selected.place]);
      pen.fillStyle = text;
      pen.fillRect(at, 0, selected.camera === number ? 2 : 1, floor + 8 + LANE * camera.lanes);
    }
    pen.restore();
  });
}

const picture = document.getElementById('frame');
const shown = document.getElementById('shown');

// The address of the page is that of the frame which is shown, to be sent to somebody else.
function address(folder, index) {
  const link = `#camera=${encodeURIComponent(folder)}&frame=${index}`;
  if (location.hash !== link) history.replaceState(null, '', link);
}

// Show the frame that the address names; false where it names none of this drive.
function follow() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  const frame = Number(wanted.get('frame') ?? NaN);
  const number = cameras.findIndex((camera) => camera.folder === wanted.get('camera'));
  if (number < 0 || !Number.isInteger(frame)) return false;
  select(number, nearest(cameras[number].index, frame));
  document.getElementById('viewer').scrollIntoView({ block: 'center' });
  return true;
}

function select(number, place) {
  const camera = cameras[number];
  if (!camera || !camera.index.length) return;
  place = Math.max(0, Math.min(camera.index.length - 1, place));
  selected = { camera: number, place };
  const index = camera.index[place];
  address(camera.folder, index);
  document.getElementById('viewer').hidden = false;
  const seconds = camera.seconds[place];
  const facts = `${camera.name}, frame ${index}, ${seconds.toFixed(2)} s: highest score ` +
    `${camera.score[place].toFixed(3)}, ${camera.obstacles[place]} obstacles, ${camera.area[place]} px`;
  shown.textContent = facts;
  picture.onerror = () => {
    // The folder is not beside the page: show the nearest frame that the page itself has.
    picture.onerror = null;
    const own = drive.pictures[camera.folder] ?? {};
    const indices = Object.keys(own).map(Number).sort((a, b) => a - b);
    if (!indices.length) {
      picture.removeAttribute('src');
      shown.textContent = `${facts} (no picture: the folder frames is not beside this page)`;
      return;
    }
    const other = indices[nearest(indices, index)];
    picture.src = own[other];
    if (other !== index) shown.textContent = `${facts} (picture: frame ${other}, the nearest in this page)`;
  };
  picture.src = `frames/${encodeURIComponent(camera.folder)}/${String(index).padStart(6, '0')}.jpg`;
  if (seconds < view[0] || seconds > view[1]) {
    const half = (view[1] - view[0]) / 2;
    look(seconds - half, seconds + half);
  }
  draw();
}

function look(left, right) {
  const span = Math.min(Math.max(right - left, 0.05), whole[1] - whole[0]);
  left = Math.min(Math.max(left, whole[0]), whole[1] - span);
  view = [left, left + span];
  draw();
}

function zoom(factor, around) {
  look(around - (around - view[0]) * factor, around + (view[1] - around) * factor);
}

canvases.forEach((canvas, number) => {
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return view[0] + (event.clientX - box.left - LEFT) / (box.width - LEFT - 6) * (view[1] - view[0]);
  };
  let drag = null;
  canvas.addEventListener('wheel', (event) => {
    event.preventDefault();
    zoom(event.deltaY < 0 ? 0.8 : 1.25, at(event));
  }, { passive: false });
  canvas.addEventListener('pointerdown', (event) => {
    drag = { from: event.clientX, view: [...view], moved: false };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener('pointermove', (event) => {
    if (!drag || Math.abs(event.clientX - drag.from) < 4 && !drag.moved) return;
    drag.moved = true;
    const seconds = (event.clientX - drag.from) / (canvas.clientWidth - LEFT - 6) * (drag.view[1] - drag.view[0]);
    look(drag.view[0] - seconds, drag.view[1] - seconds);
  });
  canvas.addEventListener('pointerup', (event) => {
    if (drag && !drag.moved) select(number, nearest(cameras[number].seconds, at(event)));
    drag = null;
  });
  canvas.addEventListener('dblclick', () => look(...whole));
  canvas.addEventListener('keydown', (event) => {
    const middle = selected ? cameras[selected.camera].seconds[selected.place] : (view[0] + view[1]) / 2;
    const place = selected?.camera === number ? selected.place : 0;
    const actions = {
      ArrowLeft: () => select(number, place - 1),
      ArrowRight: () => select(number, place + 1),
      '+': () => zoom(0.8, middle),
      '-': () => zoom(1.25, middle),
      0: () => look(...whole),
    };
    if (!actions[event.key]) return;
    event.preventDefault();
    actions[event.key]();
  });
});
document.getElementById('previous').addEventListener('click', () => selected && select(selected.camera, selected.place - 1));
document.getElementById('next').addEventListener('click', () => selected && select(selected.camera, selected.place + 1));

const table = document.querySelector('table[aria-label="events"]');

function limits() {
  return ['least-score', 'least-area'].map((id) => Number(document.getElementById(id)?.value || 0));
}

function filter() {
  const [score, area] = limits();
  let kept = 0;
  for (const row of table.tBodies[0].rows) {
    const event = drive.events[row.querySelector('.jump').dataset.event];
    const fits = event.score >= score && event.area >= area;
    row.classList.toggle('filtered', !fits);
    kept += fits;
  }
  document.getElementById('kept').textContent = `${kept} of ${table.tBodies[0].rows.length} events`;
  draw();
}

if (table) {
  for (const id of ['least-score', 'least-area']) {
    document.getElementById(id).addEventListener('input', filter);
  }
  table.tBodies[0].addEventListener('click', (click) => {
    click.preventDefault();
    const row = click.target.closest('tr');
    const event = drive.events[row.querySelector('.jump').dataset.event];
    for (const other of table.querySelectorAll('.chosen')) other.classList.remove('chosen');
    row.classList.add('chosen');
    const margin = Math.max(2, 2 * (event.end - event.start));
    look(event.start - margin, event.end + margin);
    select(event.camera, nearest(cameras[event.camera].index, event.peak));
    document.getElementById('viewer').scrollIntoView({ block: 'center' });
  });
  filter();
}

window.addEventListener('resize', draw);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
draw();
let highest = null;
cameras.forEach((camera, number) => camera.score.forEach((score, place) => {
  if (!highest || score > highest.score) highest = { score, number, place };
}));
window.addEventListener('hashchange', follow);
if (!follow() && highest) {
  const { number, place } = highest;
  select(number, place);
}
