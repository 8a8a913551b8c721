// A rotatable cloud of points, drawn by a small software renderer with a depth buffer: no WebGL is needed, so it looks
// the same on every machine. Axes are the camera's: x right, y down, z forward; the first view is the photograph's.

function decodeDepth(text, scale) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  // Little-endian 16 bit, multiples of `scale` metres; 0 is invalid.
  const depth = new Float32Array(bytes.length / 2);
  for (let i = 0; i < depth.length; i++) depth[i] = (bytes[2 * i] | (bytes[2 * i + 1] << 8)) * scale;
  return depth;
}

// Pixels whose neighbors are much nearer or farther bridge two surfaces in a smooth prediction; they hang in the air.
// `angle` is that of one pixel in radians: a surface steeper than 84 degrees to the ray (tangent 10) is taken for a bridge.
function findBridges(depth, width, height, angle) {
  const bridge = new Uint8Array(depth.length);
  const limit = 10 * angle;
  for (let row = 0; row < height; row++)
    for (let column = 0; column < width; column++) {
      const i = row * width + column;
      const right = column + 1 < width ? depth[i + 1] : depth[i];
      const below = row + 1 < height ? depth[i + width] : depth[i];
      if (Math.abs(right - depth[i]) > limit * depth[i]) bridge[i] = bridge[column + 1 < width ? i + 1 : i] = 1;
      if (Math.abs(below - depth[i]) > limit * depth[i]) bridge[i] = bridge[row + 1 < height ? i + width : i] = 1;
    }
  return bridge;
}

function makePoints(cloud, geometry) {
  const { width, height, step, intrinsics: [fx, fy, cx, cy] } = cloud;
  const depth = decodeDepth(cloud.depths[geometry], cloud.scale);
  const points = new Float32Array(depth.length * 3);
  for (let row = 0, i = 0; row < height; row++)
    for (let column = 0; column < width; column++, i++) {
      // Pixel centres lie at integer + 0.5 of the full image, of which every `step`-th pixel is kept.
      points[3 * i] = ((column * step + cloud.offset + 0.5 - cx) / fx) * depth[i];
      points[3 * i + 1] = ((row * step + cloud.offset + 0.5 - cy) / fy) * depth[i];
      points[3 * i + 2] = depth[i];
    }
  const valid = Array.from(depth).filter((z) => z > 0).sort((a, b) => a - b);
  return { points, bridge: findBridges(depth, width, height, step / fx), middle: valid[valid.length >> 1] || 1, count: valid.length };
}

// The colours of the cloud's pixels, read from a picture that the page shows anyway.
async function readColors(picture, cloud) {
  await picture.decode();
  const { width, height } = cloud;
  const canvas = document.createElement("canvas");
  canvas.width = picture.naturalWidth;
  canvas.height = picture.naturalHeight;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  const pixels = new Uint32Array(context.getImageData(0, 0, canvas.width, canvas.height).data.buffer);
  const colors = new Uint32Array(width * height);
  for (let row = 0, i = 0; row < height; row++) {
    const from = Math.min(canvas.height - 1, Math.floor(((row + 0.5) / height) * canvas.height)) * canvas.width;
    for (let column = 0; column < width; column++, i++)
      colors[i] = pixels[from + Math.min(canvas.width - 1, Math.floor(((column + 0.5) / width) * canvas.width))];
  }
  return colors;
}

class PointViewer {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.pointSize = 1;
    this.hideBridges = true;
    this.swaying = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.visible = true;
    this.pointers = new Map();
    this.reset();
    this.listen();
  }

  reset() {
    this.yaw = 0; this.pitch = 0; this.zoom = 1; this.pan = [0, 0]; this.clock = 0;
  }

  show(cloud, cloudPoints, colors) {
    Object.assign(this, { cloud, cloudPoints, colors });
    this.request();
  }

  request() {
    if (this.pending || !this.cloud) return;
    this.pending = requestAnimationFrame((now) => {
      this.pending = 0;
      if (this.swaying && this.visible) {
        this.clock += Math.min(now - (this.before || now), 50) / 1000;
        this.request();
      }
      this.before = now;
      this.draw();
    });
  }

  draw() {
    const ratio = Math.min(window.devicePixelRatio || 1, 1.5);
    const width = Math.max(1, Math.round(this.canvas.clientWidth * ratio));
    const height = Math.max(1, Math.round(this.canvas.clientHeight * ratio));
    if (this.canvas.width !== width || this.canvas.height !== height || !this.frame) {
      this.canvas.width = width;
      this.canvas.height = height;
      this.frame = this.context.createImageData(width, height);
      this.nearest = new Float32Array(width * height);
    }
    const pixels = new Uint32Array(this.frame.data.buffer);
    pixels.fill(0);
    this.nearest.fill(Infinity);
    this.canvas.dataset.drawn = this.splat(pixels, width, height);
    this.context.putImageData(this.frame, 0, 0);
  }

  // Turn every point about the middle of the scene and paint a square of its own size; returns how many were painted.
  splat(pixels, width, height) {
    const { points, bridge, middle } = this.cloudPoints;
    const { intrinsics: [fx], step } = this.cloud;
    const sway = 0.28 * Math.sin(0.7 * this.clock);
    const sinYaw = Math.sin(this.yaw + sway), cosYaw = Math.cos(this.yaw + sway);
    const sinPitch = Math.sin(this.pitch), cosPitch = Math.cos(this.pitch);
    const fit = Math.min(width / (this.cloud.width * step), height / (this.cloud.height * step));
    const focal = fx * fit, distance = middle / this.zoom, centreX = width / 2 + this.pan[0] * width, centreY = height / 2 + this.pan[1] * height;
    let painted = 0;
    for (let i = 0; i < this.colors.length; i++) {
      const depth = points[3 * i + 2];
      if (!(depth > 0) || (this.hideBridges && bridge[i])) continue;
      const x = points[3 * i], y = points[3 * i + 1], z = depth - middle;
      const turnedX = cosYaw * x + sinYaw * z, turnedZ = cosYaw * z - sinYaw * x;
      const away = sinPitch * y + cosPitch * turnedZ + distance;
      if (away < 0.05 * distance) continue;
      const scale = focal / away;
      const size = Math.min(24, Math.max(1, Math.ceil(((step * depth) / fx) * scale * 1.35 * this.pointSize)));
      const left = Math.round(centreX + scale * turnedX - size / 2);
      const top = Math.round(centreY + scale * (cosPitch * y - sinPitch * turnedZ) - size / 2);
      const right = Math.min(width, left + size), bottom = Math.min(height, top + size);
      for (let row = Math.max(0, top); row < bottom; row++)
        for (let at = row * width + Math.max(0, left), end = row * width + right; at < end; at++)
          if (away < this.nearest[at]) {
            this.nearest[at] = away;
            pixels[at] = this.colors[i] | 0xff000000;
          }
      painted++;
    }
    return painted;
  }

  turn(yaw, pitch) {
    this.hold();
    this.yaw += yaw;
    this.pitch = Math.max(-1.5, Math.min(1.5, this.pitch + pitch));
    this.request();
  }

  scale(factor) {
    this.hold();
    this.zoom = Math.max(0.2, Math.min(12, this.zoom * factor));
    this.request();
  }

  // The swaying stops where it is as soon as somebody takes over.
  hold() {
    if (this.swaying) {
      this.yaw += 0.28 * Math.sin(0.7 * this.clock);
      this.clock = 0;
      this.swaying = false;
    }
  }

  listen() {
    const canvas = this.canvas;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    });
    const release = (event) => this.pointers.delete(event.pointerId);
    canvas.addEventListener("pointerup", release);
    canvas.addEventListener("pointercancel", release);
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("wheel", (event) => {
      if (document.activeElement !== canvas) return; // the page scrolls until the view is clicked
      event.preventDefault();
      this.scale(Math.exp(-event.deltaY / 500));
    }, { passive: false });
    const keys = {
      ArrowLeft: () => this.turn(-0.08, 0), ArrowRight: () => this.turn(0.08, 0), ArrowUp: () => this.turn(0, 0.08),
      ArrowDown: () => this.turn(0, -0.08), "+": () => this.scale(1.15), "=": () => this.scale(1.15), "-": () => this.scale(1 / 1.15),
      0: () => { this.hold(); this.reset(); this.request(); },
    };
    canvas.addEventListener("keydown", (event) => {
      if (!keys[event.key]) return;
      event.preventDefault();
      keys[event.key]();
    });
    new ResizeObserver(() => this.request()).observe(canvas);
    new IntersectionObserver(([entry]) => { this.visible = entry.isIntersecting; this.request(); }).observe(canvas);
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    const dx = event.clientX - before[0], dy = event.clientY - before[1];
    if (others.length) {
      const gap = (place) => Math.hypot(place[0] - others[0][0], place[1] - others[0][1]) || 1;
      this.scale(gap([event.clientX, event.clientY]) / gap(before));
    } else if (event.shiftKey || event.buttons === 2) {
      this.hold();
      this.pan = [this.pan[0] + dx / this.canvas.clientWidth, this.pan[1] + dy / this.canvas.clientHeight];
      this.request();
    } else {
      this.turn(dx / 180, -dy / 180);
    }
  }
}
