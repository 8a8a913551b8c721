// The app: pictures from files or the camera, and videos, go to the server one after the other; what comes back joins the
// page.

const MOST_SHOWN = 12;
const ask = document.querySelector(".ask"), arriving = document.querySelector(".arriving");
const overlay = document.querySelector(".overlay"), layers = overlay.querySelectorAll(".layers img");
const part = (name) => document.querySelector(`[name="${name}"]`);
const sent = new Map(); // what each article was made from
let stream = null, live = null;

function say(text, bad = false) {
  const line = ask.querySelector("[role=status]");
  line.textContent = text;
  line.classList.toggle("bad", bad);
}

// The answer of the server, or null when it was refused or did not come; the reason is shown.
async function request(address, blob, name, confidence) {
  if (blob.size > data.limit) {
    say(`${name} has ${(blob.size / 1e6).toFixed(1)} MB; at most ${data.limit / 1e6} MB are taken.`, true);
    return null;
  }
  ask.classList.add("busy");
  try {
    const reply = await fetch(`${address}?name=${encodeURIComponent(name)}&confidence=${confidence}`, { method: "POST", body: blob });
    if (reply.ok) return reply;
    const { error } = await reply.json();
    say(error.startsWith(name) ? error : `${name}: ${error}`, true);
  } catch {
    say(`${name}: the server did not answer; is it still running?`, true);
  } finally {
    ask.classList.remove("busy");
  }
  return null;
}

function remove(index) {
  const article = articles()[index];
  sent.delete(article);
  article.remove();
  choices()[index].remove();
  data.clouds.splice(index, 1);
}

const confidence = () => Number(part("confidence")?.checked ?? false);

async function predict(blob, name, replaced = null) {
  const sure = confidence();
  const reply = await request("predict", blob, name, sure);
  if (!reply) return null;
  const { choice, article, cloud, text } = await reply.json();
  const old = articles().indexOf(replaced);
  if (old >= 0) remove(old);
  while (articles().length >= MOST_SHOWN) remove(0);
  arriving.hidden = false;
  arriving.querySelector(".strip").insertAdjacentHTML("beforeend", choice);
  arriving.insertAdjacentHTML("beforeend", article);
  data.clouds.push(cloud);
  const added = articles().at(-1);
  sent.set(added, { blob, name, sure });
  choose(articles().length - 1);
  say(text);
  root.dataset.predicted = Number(root.dataset.predicted ?? 0) + 1;
  return added;
}

// A video comes back as one of all maps, in place of the last.
const film = document.querySelector(".film");

async function predictVideo(blob, name) {
  const reply = await request("video", blob, name, confidence());
  if (!reply) return null;
  const [player, link] = [film.querySelector("video"), film.querySelector("a")];
  URL.revokeObjectURL(player.src);
  link.href = player.src = URL.createObjectURL(await reply.blob());
  link.download = `${name.replace(/\.\w+$/, "")}-maps.mp4`;
  film.hidden = false;
  say(decodeURIComponent(reply.headers.get("x-said")));
  root.dataset.films = Number(root.dataset.films ?? 0) + 1;
  return film;
}

async function predictAll(files) {
  const refused = [];
  for (const [i, file] of [...files].entries()) {
    say(`${file.name} (${i + 1} of ${files.length})`);
    const isVideo = file.type.startsWith("video/") || data.videos.some((end) => file.name.toLowerCase().endsWith(end));
    const send = isVideo ? predictVideo : predict; // browsers know no type of some
    if (!(await send(file, file.name))) refused.push(ask.querySelector("[role=status]").textContent);
  }
  if (refused.length) say(refused.join("\n"), true);
}

part("pictures").addEventListener("change", async (event) => {
  await predictAll([...event.target.files]);
  event.target.value = ""; // the same file may be chosen again
});
for (const kind of ["dragover", "dragleave", "drop"])
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    ask.classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files.length) predictAll(event.dataTransfer.files);
  });

// One map over the picture.
function showLayer() {
  const article = articles()[chosen];
  const picture = (name) => [...article.querySelectorAll("img[data-map]")].find((image) => image.dataset.map === name);
  layers[0].src = picture("image").src;
  layers[1].src = picture(part("layer").value).src;
  layers[1].style.opacity = part("opacity").value;
}

document.addEventListener("chosen", ({ detail: article }) => {
  overlay.hidden = false;
  const names = [...article.querySelectorAll("img[data-map]")].map((image) => image.dataset.map).filter((name) => name !== "image");
  fill(part("layer"), names.map((name) => [name, name.replace(/ prediction$/, "")]));
  showLayer();
});
part("layer").addEventListener("change", showLayer);
part("opacity").addEventListener("input", showLayer);

part("files").addEventListener("click", async () => {
  const { blob, name, sure } = sent.get(articles()[chosen]);
  const reply = await request("files", blob, name, sure);
  if (!reply) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await reply.blob());
  link.download = `${name.replace(/\.\w+$/, "")}.zip`;
  link.click();
  URL.revokeObjectURL(link.href);
  root.dataset.downloaded = link.download;
});

// The camera: a picture on demand, or one after the other as fast as they are predicted.
const video = ask.querySelector("video");

async function shoot(replaced = null) {
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.9));
  return predict(blob, "camera.jpg", replaced);
}

part("camera").addEventListener("click", async () => {
  if (stream) {
    stream.getTracks().forEach((track) => track.stop());
    stream = null;
  } else if (!navigator.mediaDevices) {
    say("Browsers give pages a camera only on this computer or over https.", true);
  } else {
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 }, facingMode: "environment" } });
      video.srcObject = stream;
      await video.play();
    } catch (error) {
      say(`The camera cannot be used (${error.message}).`, true);
    }
  }
  video.hidden = part("shoot").parentElement.hidden = !stream;
  part("camera").textContent = stream ? "Stop the camera" : "Use the camera";
});
part("shoot").addEventListener("click", () => shoot());
part("live").addEventListener("change", async (event) => {
  const line = ask.querySelector("[role=status]");
  live = null;
  line.ariaLive = "off"; // readers would never come to an end
  while (event.target.checked && stream) {
    const started = performance.now();
    const next = await shoot(live);
    if (!next) break;
    live = next;
    say(`live: ${(1000 / (performance.now() - started)).toFixed(1)} pictures a second`);
  }
  line.ariaLive = "polite";
  event.target.checked = false;
});
