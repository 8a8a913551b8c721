// Small multiples of lines against training steps, as inline SVG, with a reading under the pointer.

const chartSize = { width: 300, height: 170, left: 40, right: 8, top: 12, bottom: 22 };

function formatNumber(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e5 || (size > 0 && size < 1e-3)) return value.toExponential(1);
  return String(Number(value.toPrecision(size >= 1000 ? 4 : 3)));
}

function niceTicks(low, high, count) {
  const rough = (high - low || Math.abs(high) || 1) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough * 0.999);
  const ticks = [];
  for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-9; value += step) ticks.push(value);
  return ticks;
}

// An exponential mean whose memory is a twentieth of the curve: the trend among noisy batches.
function smooth(values) {
  const keep = 1 - 1 / Math.max(1, values.length / 20);
  let mean = values[0];
  return values.map((value) => (mean = keep * mean + (1 - keep) * value));
}

function drawChart(figure, chart) {
  const { width, height, left, right, top, bottom } = chartSize;
  const values = chart.y.concat(chart.reference === null ? [] : [chart.reference]);
  let low = Math.min(...values), high = Math.max(...values);
  const margin = (high - low || Math.abs(high) || 1) * 0.06;
  low -= margin; high += margin;
  if (Math.min(...values) >= 0) low = Math.max(low, 0);
  const first = chart.x[0], last = Math.max(chart.x[chart.x.length - 1], first + 1);
  const toX = (step) => left + ((step - first) / (last - first)) * (width - left - right);
  const toY = (value) => top + (1 - (value - low) / (high - low)) * (height - top - bottom);
  const path = (ys) => ys.map((y, i) => `${i ? "L" : "M"}${toX(chart.x[i]).toFixed(1)} ${toY(y).toFixed(1)}`).join("");
  const parts = niceTicks(low, high, 4).map((tick) =>
    `<line class="grid" x1="${left}" x2="${width - right}" y1="${toY(tick)}" y2="${toY(tick)}"/>` +
    `<text x="${left - 6}" y="${toY(tick) + 3.5}" text-anchor="end">${formatNumber(tick)}</text>`);
  for (const tick of niceTicks(first, last, 4))
    parts.push(`<text x="${toX(tick)}" y="${height - 6}" text-anchor="middle">${formatNumber(tick)}</text>`);
  if (chart.reference !== null)
    parts.push(`<line class="reference" x1="${left}" x2="${width - right}" y1="${toY(chart.reference)}" y2="${toY(chart.reference)}"/>`);
  const many = chart.y.length > 30;
  const trend = many ? smooth(chart.y) : chart.y;
  if (many) parts.push(`<path class="line faint" d="${path(chart.y)}"/>`);
  parts.push(`<path class="line" d="${path(trend)}"/>`);
  if (!many) chart.x.forEach((x, i) => parts.push(`<circle class="dot" cx="${toX(x)}" cy="${toY(chart.y[i])}" r="2.6"/>`));
  parts.push(`<line class="hair" y1="${top}" y2="${height - bottom}" visibility="hidden"/>`);
  const holder = figure.querySelector(".plot");
  holder.innerHTML = `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${figure.dataset.label}">${parts.join("")}</svg>`;
  addReading(figure, holder.firstChild, chart, toX, toY);
}

function addReading(figure, svg, chart, toX, toY) {
  const hair = svg.querySelector(".hair");
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  figure.append(tip);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const scale = box.width / chartSize.width;
    const at = (event.clientX - box.left) / scale;
    let nearest = 0;
    chart.x.forEach((x, i) => { if (Math.abs(toX(x) - at) < Math.abs(toX(chart.x[nearest]) - at)) nearest = i; });
    const x = toX(chart.x[nearest]);
    hair.setAttribute("x1", x);
    hair.setAttribute("x2", x);
    hair.setAttribute("visibility", "visible");
    tip.hidden = false;
    tip.textContent = `step ${chart.x[nearest]}: ${formatNumber(chart.y[nearest])}`;
    tip.style.left = `${svg.offsetLeft + box.left - figure.getBoundingClientRect().left + x * scale}px`;
    tip.style.top = `${box.top - figure.getBoundingClientRect().top + toY(chart.y[nearest]) * scale}px`;
  });
  svg.addEventListener("pointerleave", () => { hair.setAttribute("visibility", "hidden"); tip.hidden = true; });
}
