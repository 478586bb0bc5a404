'use strict';

for (const table of document.querySelectorAll('table.sortable')) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const numeric = head.classList.contains('numeric');
    head.querySelector('button').addEventListener('click', () => {
      const first = numeric ? 'descending' : 'ascending';
      const second = numeric ? 'ascending' : 'descending';
      const order = head.getAttribute('aria-sort') === first ? second : first;
      const sign = order === 'ascending' ? 1 : -1;
      const keyed = [...body.rows].map((row) => [row.cells[column].dataset.value, row]);
      keyed.sort(([a], [b]) => {
        if (a === '' || b === '') return (a === '') - (b === '');
        return sign * (numeric ? a - b : a.localeCompare(b, 'en', { numeric: true }));
      });
      body.append(...keyed.map(([, row]) => row));
      heads.forEach((other) => other.removeAttribute('aria-sort'));
      head.setAttribute('aria-sort', order);
    });
  });

  const field = table.closest('div.table').querySelector('input[type="search"]');
  field?.addEventListener('input', () => {
    const words = field.value.toLowerCase().split(/\s+/);
    let shown = 0;
    for (const row of body.rows) {
      const text = [...row.cells].map((cell) => cell.textContent).join(' ').toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    const output = field.closest('.filter').querySelector('output');
    output.textContent = field.value.trim() ? `${shown} of ${body.rows.length}` : '';
  });
}

for (const box of document.querySelectorAll('input[data-toggles]')) {
  const section = box.closest('section') ?? document;
  const show = () => {
    for (const part of section.querySelectorAll('[data-series]')) {
      if (part.dataset.series === box.dataset.toggles) {
        part.style.display = box.checked ? '' : 'none';
      }
    }
  };
  box.addEventListener('change', show);
  show(); // a reload may have kept the box as it was left
}

if (document.querySelector('.zoom')) {
  const dialog = document.createElement('dialog');
  const image = document.createElement('img');
  const text = document.createElement('p');
  dialog.append(image, text);
  dialog.addEventListener('click', () => dialog.close());
  document.body.append(dialog);
  document.addEventListener('click', (event) => {
    const button = event.target.closest('.zoom');
    if (!button) return;
    const source = button.querySelector('img');
    image.src = source.src;
    image.alt = source.alt;
    text.textContent = button.parentElement.querySelector('figcaption')?.textContent ?? source.alt;
    dialog.setAttribute('aria-label', source.alt);
    dialog.showModal();
  });
}
