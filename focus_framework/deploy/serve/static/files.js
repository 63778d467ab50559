// Files made in the browser: PNG from pixels, ZIP from files, and their checksum. No pixel passes through a canvas, which would
// multiply colours by their transparency and lose some.

const TABLE = new Uint32Array(256).map((_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n >>> 0;
});

function crc(...parts) {
  let value = 0xffffffff;
  for (const part of parts) for (let i = 0; i < part.length; i++) value = TABLE[(value ^ part[i]) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

const COLOUR = { 1: 0, 3: 2, 4: 6 };

/** Pixels of 1 (grey), 3 (RGB) or 4 (RGBA) channels as a PNG. */
export async function png(pixels, width, height, channels) {
  const row = width * channels;
  const filtered = new Uint8Array((row + 1) * height);
  for (let y = 0; y < height; y++) {
    const to = y * (row + 1), from = y * row;
    filtered[to] = 2; // "up": the difference to the row above
    for (let x = 0; x < row; x++) filtered[to + 1 + x] = pixels[from + x] - (y ? pixels[from + x - row] : 0);
  }
  const stream = new Blob([filtered]).stream().pipeThrough(new CompressionStream("deflate"));
  const data = new Uint8Array(await new Response(stream).arrayBuffer());
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([8, COLOUR[channels], 0, 0, 0], 8);
  const signature = new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10]);
  return new Blob([signature, ...chunk("IHDR", header), ...chunk("IDAT", data), ...chunk("IEND", new Uint8Array(0))], { type: "image/png" });
}

function chunk(name, data) {
  const kind = new TextEncoder().encode(name);
  const length = new DataView(new ArrayBuffer(4)), sum = new DataView(new ArrayBuffer(4));
  length.setUint32(0, data.length);
  sum.setUint32(0, crc(kind, data));
  return [length.buffer, kind, data, sum.buffer];
}

/** Files [name, Blob] as one ZIP, stored: PNG does not get smaller. */
export async function zip(files) {
  const parts = [], directory = [];
  let offset = 0;
  for (const [name, blob] of files) {
    const data = new Uint8Array(await blob.arrayBuffer()), called = new TextEncoder().encode(name);
    const common = [20, 0x0800, 0, 0, 0x5921]; // version, names in UTF-8, stored, 00:00, 1 September 2024
    const local = record(0x04034b50, [...common, [crc(data)], [data.length], [data.length], called.length, 0]);
    directory.push(record(0x02014b50, [20, ...common, [crc(data)], [data.length], [data.length], called.length, 0, 0, 0, 0, [0], [offset]]), called);
    parts.push(local, called, data);
    offset += local.length + called.length + data.length;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const end = record(0x06054b50, [0, 0, files.length, files.length, [size], [offset], 0]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

/** A signature and fields, little end first: a number has two bytes, one in brackets four. */
function record(signature, fields) {
  const bytes = new Uint8Array(4 + fields.reduce((sum, field) => sum + (Array.isArray(field) ? 4 : 2), 0));
  const view = new DataView(bytes.buffer);
  view.setUint32(0, signature, true);
  let at = 4;
  for (const field of fields) {
    if (Array.isArray(field)) view.setUint32(at, field[0], true);
    else view.setUint16(at, field, true);
    at += Array.isArray(field) ? 4 : 2;
  }
  return bytes;
}

export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
