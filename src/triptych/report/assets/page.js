// Ties the page together: theme, charts, the choice of an example, the 3D view, enlarged maps.

const data = JSON.parse(document.getElementById("data").textContent);
const root = document.documentElement;

document.getElementById("theme").addEventListener("click", () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});

document.querySelectorAll(".chart[data-chart]").forEach((figure) => addReading(figure, data.charts[Number(figure.dataset.chart)]));

// Asked anew each time: the app adds examples while the page is open.
const articles = () => [...document.querySelectorAll("article.example")];
const choices = () => [...document.querySelectorAll(".strip button")];
const stage = document.querySelector(".stage canvas")?.closest(".stage");
const viewer = stage ? new PointViewer(stage.querySelector("canvas")) : null;
const control = (name) => stage.querySelector(`[name="${name}"]`);
let chosen = 0;

async function showPoints() {
  const cloud = data.clouds[chosen];
  stage.hidden = !cloud;
  if (!cloud) return;
  const color = control("color").value;
  const picture = [...articles()[chosen].querySelectorAll("img[data-map]")].find((image) => image.dataset.map === color);
  const points = makePoints(cloud, control("geometry").value);
  viewer.show(cloud, points, await readColors(picture, cloud));
  const camera = cloud.assumed ? ` The camera is unknown: a field of view of ${cloud.assumed}° is assumed.` : "";
  stage.querySelector("[role=status]").textContent = `${points.count.toLocaleString("en")} points.${camera}`;
  root.dataset.points = "shown";
}

function fill(select, options) {
  const before = select.value;
  select.replaceChildren(...options.map(([value, label]) => new Option(label, value)));
  if (options.some(([value]) => value === before)) select.value = before;
}

function choose(index) {
  chosen = index;
  const shown = articles()[index];
  articles().forEach((article) => { article.hidden = article !== shown; });
  choices().forEach((button, i) => button.setAttribute("aria-pressed", String(i === index)));
  document.dispatchEvent(new CustomEvent("chosen", { detail: shown }));
  if (!viewer) return;
  fill(control("color"), [...shown.querySelectorAll("img[data-map]")].map((image) => [image.dataset.map, image.dataset.map]));
  fill(control("geometry"), Object.keys(data.clouds[index]?.depths ?? {}).map((name) => [name, `${name} depth`]));
  showPoints();
}

document.querySelector(".strip")?.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) choose(choices().indexOf(button));
});
if (viewer) {
  control("color").addEventListener("change", showPoints);
  control("geometry").addEventListener("change", showPoints);
  control("size").addEventListener("input", (event) => { viewer.pointSize = Number(event.target.value); viewer.request(); });
  control("bridges").addEventListener("change", (event) => { viewer.hideBridges = event.target.checked; viewer.request(); });
  stage.querySelector(".reset").addEventListener("click", () => { viewer.hold(); viewer.reset(); viewer.request(); });
  stage.querySelector("canvas").addEventListener("contextmenu", (event) => event.preventDefault());
}
if (articles().length) choose(0);

// One pointer, every map: the same pixel is marked in all maps of an example.
document.addEventListener("pointermove", (event) => {
  const map = event.target.closest(".map"), article = map?.closest("article.example");
  articles().forEach((each) => each.classList.toggle("pointing", each === article));
  if (!article) return;
  const box = map.getBoundingClientRect();
  article.style.setProperty("--x", `${((event.clientX - box.left) / box.width) * 100}%`);
  article.style.setProperty("--y", `${((event.clientY - box.top) / box.height) * 100}%`);
});

const zoom = document.getElementById("zoom");
let enlarged = [], place = 0;

function enlarge(index) {
  place = (index + enlarged.length) % enlarged.length;
  const from = enlarged[place].querySelector("img"), to = zoom.querySelector("img");
  to.src = from.src;
  to.alt = from.alt;
  to.className = from.className;
  zoom.querySelector("p").textContent = from.alt;
}

document.addEventListener("click", (event) => {
  const map = event.target.closest(".map");
  if (!map) return;
  enlarged = [...map.closest("article").querySelectorAll(".map")];
  enlarge(enlarged.indexOf(map));
  zoom.showModal();
});
zoom.addEventListener("click", (event) => {
  if (event.target.dataset.turn) enlarge(place + Number(event.target.dataset.turn));
  if (event.target === zoom) zoom.close();
});
zoom.addEventListener("keydown", (event) => {
  const turn = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (turn) enlarge(place + turn);
});

root.dataset.ready = "true";
