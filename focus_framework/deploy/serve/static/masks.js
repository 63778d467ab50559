// What is computed of probabilities: masks, strokes of the brush, and the images that are shown and saved.

const COLOUR = [255, 40, 40]; // of overlays, as focus predict draws them

/** Strokes painted on a grid: 0 nothing, 1 belongs to the mask, 2 does not. A stroke is {add, radius, points}, all in 0..1 of the width. */
export function rasterise(strokes, width, height, grid = new Uint8Array(width * height)) {
  for (const stroke of strokes) {
    const [first] = stroke.points;
    segment(grid, width, height, first, first, stroke);
    for (let i = 1; i < stroke.points.length; i++) segment(grid, width, height, stroke.points[i - 1], stroke.points[i], stroke);
  }
  return grid;
}

/** All pixels whose middle is no farther than the radius from the way between two points. */
export function segment(grid, width, height, from, to, { add, radius }) {
  const r = Math.max(0.5, radius * width), value = add ? 1 : 2;
  const ax = from[0] * width, ay = from[1] * width, dx = to[0] * width - ax, dy = to[1] * width - ay;
  const long = dx * dx + dy * dy;
  const left = Math.max(0, Math.floor(Math.min(ax, ax + dx) - r)), right = Math.min(width, Math.ceil(Math.max(ax, ax + dx) + r));
  const top = Math.max(0, Math.floor(Math.min(ay, ay + dy) - r)), bottom = Math.min(height, Math.ceil(Math.max(ay, ay + dy) + r));
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) {
      const px = x + 0.5 - ax, py = y + 0.5 - ay;
      const along = long ? Math.min(1, Math.max(0, (px * dx + py * dy) / long)) : 0;
      const ex = px - along * dx, ey = py - along * dy;
      if (ex * ex + ey * ey <= r * r) grid[y * width + x] = value;
    }
  }
}

/** 0 or 1 for each pixel: corrected, or above the threshold (the map has 255 steps). */
export function binary(map, edits, threshold) {
  const mask = new Uint8Array(map.length);
  const bound = threshold * 255;
  for (let i = 0; i < map.length; i++) mask[i] = edits[i] ? 2 - edits[i] : map[i] > bound ? 1 : 0;
  return mask;
}

/** The map with corrections as certainties, 0..255. */
export function corrected(map, edits) {
  const out = new Uint8Array(map);
  for (let i = 0; i < out.length; i++) if (edits[i]) out[i] = edits[i] === 1 ? 255 : 0;
  return out;
}

/** The border of a mask, as thick as focus predict draws it: where a square around a pixel holds both kinds. */
export function border(mask, width, height) {
  const half = Math.max(3, Math.round(Math.max(width, height) / 200)) >> 1;
  const rows = sums(mask, width, height, half, 1, width), whole = sums(rows, height, width, half, width, 1);
  const out = new Uint8Array(mask.length);
  for (let y = 0; y < height; y++) {
    const high = Math.min(height - 1, y + half) - Math.max(0, y - half) + 1;
    for (let x = 0; x < width; x++) {
      const all = high * (Math.min(width - 1, x + half) - Math.max(0, x - half) + 1), found = whole[y * width + x];
      out[y * width + x] = found > 0 && found < all ? 1 : 0;
    }
  }
  return out;
}

/** Sums over stretches of 2 half + 1 along one axis, cut off at the edge. */
function sums(values, length, lines, half, step, stride) {
  const out = new Uint32Array(values.length);
  for (let line = 0; line < lines; line++) {
    let sum = 0;
    const at = i => line * stride + i * step;
    for (let i = 0; i < Math.min(half, length); i++) sum += values[at(i)];
    for (let i = 0; i < length; i++) {
      if (i + half < length) sum += values[at(i + half)];
      if (i - half > 0) sum -= values[at(i - half - 1)];
      out[at(i)] = sum;
    }
  }
  return out;
}

/** RGBA pixels of one view. `rgb` is RGBA of the image. */
export function paint(view, rgb, map, edits, width, height, threshold, soft) {
  const out = new Uint8ClampedArray(rgb);
  if (view === "image" || !map) return out;
  if (view === "probability") return grey(out, corrected(map, edits));
  const mask = binary(map, edits, threshold);
  if (view === "mask") return grey(out, mask.map(value => value * 255));
  if (view === "cutout") {
    const alpha = soft ? corrected(map, edits) : mask.map(value => value * 255);
    for (let i = 0; i < alpha.length; i++) out[4 * i + 3] = alpha[i];
    return out;
  }
  const line = border(mask, width, height);
  for (let i = 0; i < mask.length; i++) {
    const strength = line[i] ? 1 : 0.45 * mask[i];
    if (strength) for (let c = 0; c < 3; c++) out[4 * i + c] = Math.round(out[4 * i + c] * (1 - strength) + COLOUR[c] * strength);
  }
  return out;
}

function grey(out, values) {
  for (let i = 0; i < values.length; i++) out[4 * i] = out[4 * i + 1] = out[4 * i + 2] = values[i];
  return out;
}
