// The value of a curve under the pointer.

function formatNumber(value) {
  const size = Math.abs(value);
  if (size >= 1e5 || (size > 0 && size < 1e-3)) return value.toExponential(1);
  return String(Number(value.toPrecision(size >= 1000 ? 4 : 3)));
}

function addReading(figure, chart) {
  const { width, left, right, x: [first, last], height, top, bottom, y: [low, high] } = chart.frame;
  const toX = (step) => left + ((step - first) / (last - first)) * (width - left - right);
  const toY = (value) => top + (1 - (value - low) / (high - low)) * (height - top - bottom);
  const svg = figure.querySelector("svg");
  const hair = svg.querySelector(".hair");
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  figure.append(tip);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const scale = box.width / width;
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
