// The page: images, one of which is shown, with tools. State is in `items` and `shown`; everything visible follows from it.

import { png, save, zip } from "./files.js";
import { binary, corrected, paint, rasterise, segment } from "./masks.js";
import * as service from "./service.js";

const WIDEST = 1600; // pixels of what is drawn; files have all of theirs
const $ = id => document.getElementById(id);
const items = [];
let shown = null, view = "overlay", brush = null, told = null, collects = false, examples = 0, number = 0;

/* ---------------------------------------------------------------- start */

service.onTokenNeeded(again => new Promise(done => {
  if (again) $("door-hint").textContent = "That was not the token; try again.";
  $("door").showModal();
  $("door-form").onsubmit = event => {
    event.preventDefault();
    $("door").close();
    done($("token").value.trim());
  };
}));

async function start() {
  try {
    told = await service.models();
  } catch (trouble) {
    return complain(trouble);
  }
  collects = told.collects;
  $("model").replaceChildren(...told.models.map(model => new Option(model.name, model.name)));
  const { pixels, body } = told.limits;
  $("bounds").textContent = `JPEG, PNG, WebP, TIFF and more, up to ${pixels / 1e6} million pixels and ${Math.round(body / 1048576)} MB each.`;
  if (collects) $("keeps").textContent = "Pairs that you save are kept there for training, nothing else.";
  $("keep").hidden = !collects;
  $("prompts").hidden = !told.judges;
  $("version").textContent = `FOCUS Framework ${told.version}`;
  modelChosen();
}

const model = () => told?.models.find(each => each.name === $("model").value);

function modelChosen() {
  $("purpose").textContent = model() ? sentence(model().title) : "";
  $("threshold").value = model()?.threshold ?? 0.5;
  $("example").hidden = !model()?.example;
  $("judged").hidden = true;
  for (const item of items) ask(item);
  refresh();
}

const sentence = text => text && `${text[0].toUpperCase()}${text.slice(1).replace(/\.?$/, ".")}`;

/* ---------------------------------------------------------------- images in */

async function take(files) {
  const images = [...files].filter(file => file.type.startsWith("image/") || !file.type);
  if (!images.length && [...files].length) return complain(new Error("None of these files is an image."));
  await started; // who drops an image at once is not turned away
  if (!told) return complain(new Error("The service does not answer. Is focus serve still running?"));
  const added = images.map(file => ({ file, name: unique(file.name.replace(/\.[^.]*$/, "") || "image"), state: "waiting", strokes: [], key: ++number }));
  items.push(...added);
  if (added.length && !shown) shown = added[0];
  if (items.length) document.body.classList.add("working");
  $("empty").hidden = items.length > 0;
  $("work").hidden = !items.length;
  added.forEach(ask);
  refresh();
}

function unique(stem) {
  const plain = stem.replace(/[^\p{L}\p{N} ._-]+/gu, "_");
  let name = plain;
  for (let n = 2; items.some(item => item.name.toLowerCase() === name.toLowerCase()); n++) name = `${plain}-${n}`;
  return name;
}

/* Two images at a time: one is in the network while the next is read. */
const line = [];
let running = 0;

function ask(item) {
  item.state = "waiting";
  item.trouble = null;
  if (!line.includes(item)) line.push(item);
  advance();
}

function advance() {
  while (running < 2 && line.length) {
    running++;
    const item = line.shift();
    find(item).finally(() => { running--; advance(); refresh(); });
  }
}

async function find(item) {
  const wanted = model().name;
  try {
    item.bitmapSource ??= await shownByBrowser(item.file);
    if (!item.rgb) await measure(item);
    refresh();
    const blob = await service.mask(item.file, wanted);
    const map = await greys(blob);
    if (model().name !== wanted) return ask(item); // another model was chosen meanwhile
    Object.assign(item, { blob, map, state: "ready", of: wanted });
    fit(item);
  } catch (trouble) {
    Object.assign(item, { state: "failed", trouble: trouble.message });
  }
}

/** What createImageBitmap takes: the file, or what the service makes of it where this browser cannot show it. */
async function shownByBrowser(file) {
  try {
    (await createImageBitmap(file)).close();
    return file;
  } catch {
    return service.read(file);
  }
}

async function measure(item) {
  const bitmap = await createImageBitmap(item.bitmapSource);
  const scale = Math.min(1, WIDEST / Math.max(bitmap.width, bitmap.height));
  item.width = Math.max(1, Math.round(bitmap.width * scale));
  item.height = Math.max(1, Math.round(bitmap.height * scale));
  item.rgb = drawn(bitmap, item.width, item.height).data;
  bitmap.close();
}

function drawn(source, width, height) {
  const context = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

/** The grey values of a PNG: {values, width, height}. */
async function greys(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  const { data } = drawn(bitmap, bitmap.width, bitmap.height);
  const values = new Uint8Array(bitmap.width * bitmap.height);
  for (let i = 0; i < values.length; i++) values[i] = data[4 * i];
  const map = { values, width: bitmap.width, height: bitmap.height };
  bitmap.close();
  return map;
}

/** The map and the corrections at the size that is drawn. */
function fit(item) {
  const { values, width, height } = item.map;
  item.small = new Uint8Array(item.width * item.height);
  for (let y = 0; y < item.height; y++) {
    const from = Math.min(height - 1, Math.floor(((y + 0.5) * height) / item.height)) * width;
    for (let x = 0; x < item.width; x++) item.small[y * item.width + x] = values[from + Math.min(width - 1, Math.floor(((x + 0.5) * width) / item.width))];
  }
  item.edits = rasterise(item.strokes, item.width, item.height);
}

/* ---------------------------------------------------------------- what is seen */

let due = false;
function refresh() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    strip();
    stage();
    tools();
  });
}

function strip() {
  const list = $("strip");
  list.replaceChildren(...items.map(item => {
    item.button ??= thumbnail(item);
    const button = item.button.firstChild;
    button.className = item.state;
    button.setAttribute("aria-current", item === shown);
    button.setAttribute("aria-label", `${item.name}, ${{ waiting: "working", ready: "ready", failed: "failed" }[item.state]}`);
    button.title = item.name;
    if (item.rgb && !button.dataset.drawn) {
      const scale = 150 / Math.min(item.width, item.height), canvas = button.querySelector("canvas");
      canvas.width = Math.max(1, item.width * scale);
      canvas.height = Math.max(1, item.height * scale);
      const whole = Object.assign(document.createElement("canvas"), { width: item.width, height: item.height });
      whole.getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(item.rgb), item.width, item.height), 0, 0);
      canvas.getContext("2d").drawImage(whole, 0, 0, canvas.width, canvas.height);
      button.dataset.drawn = "yes";
    }
    const badge = button.querySelector(".badge");
    badge.textContent = item.state === "failed" ? "!" : item.strokes.length ? "✎" : "";
    badge.hidden = !badge.textContent;
    return item.button;
  }));
  const finished = items.filter(item => item.state !== "waiting").length, busy = finished < items.length;
  $("progress-row").hidden = !busy;
  $("progress").value = items.length ? finished / items.length : 0;
  $("progress-text").textContent = `${finished} of ${items.length} done`;
}

function thumbnail(item) {
  const row = document.createElement("li"), button = document.createElement("button");
  button.type = "button";
  button.append(document.createElement("canvas"), Object.assign(document.createElement("span"), { className: "badge" }));
  button.addEventListener("click", () => show(item));
  row.append(button);
  return row;
}

function show(item) {
  shown = item;
  $("judged").hidden = true; // it was said of another mask
  $("kept").hidden = true;
  refresh();
}

function stage() {
  const item = shown, frame = $("frame");
  const inside = view === "inside" && item?.state === "ready";
  frame.hidden = !item?.rgb || inside;
  $("inside").hidden = !inside;
  const note = $("note");
  note.hidden = item?.state === "ready" || !item;
  if (inside) return look(item);
  note.className = `note${item?.state === "failed" ? " bad" : ""}${item?.rgb ? "" : " alone"}`;
  note.textContent = item?.state === "failed" ? item.trouble : "Looking for the mask …";
  if (!item?.rgb) return;
  const room = $("stage").getBoundingClientRect(), narrow = matchMedia("(max-width: 56rem)").matches;
  const high = narrow ? Math.min(innerHeight * 0.6, 640) : room.height - 26;
  const scale = Math.min((room.width - 26) / item.width, high / item.height, 4);
  frame.style.width = `${Math.max(1, Math.round(item.width * scale))}px`;
  frame.style.height = `${Math.max(1, Math.round(item.height * scale))}px`;
  frame.classList.toggle("whole", view === "image" || item.state !== "ready");
  frame.classList.toggle("painting", Boolean(brush) && item.state === "ready");
  const ready = item.state === "ready";
  put($("before"), item, item.rgb);
  put($("after"), item, paint(ready ? view : "image", item.rgb, item.small, item.edits, item.width, item.height, threshold(), $("soft").checked));
  $("after").setAttribute("aria-label", `${item.name}: ${view}${brush ? ", brush" : ""}`);
}

function put(canvas, item, pixels) {
  if (canvas.width !== item.width || canvas.height !== item.height) Object.assign(canvas, { width: item.width, height: item.height });
  canvas.getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(pixels), item.width, item.height), 0, 0);
}

const threshold = () => Number($("threshold").value);

function tools() {
  const item = shown, ready = item?.state === "ready";
  $("threshold-value").textContent = threshold().toFixed(2);
  $("size-value").textContent = `${$("size").value} %`;
  for (const id of ["threshold", "size", "brush-add", "brush-take", "download", "keep", "judge"]) $(id).disabled = !ready;
  $("download-all").disabled = !items.some(each => each.state === "ready");
  $("undo").disabled = $("reset").disabled = !item?.strokes.length;
  $("brush-add").setAttribute("aria-pressed", brush === "add");
  $("brush-take").setAttribute("aria-pressed", brush === "take");
  $("soft-row").hidden = view !== "cutout";
  $("download").querySelector("span").textContent = `This ${{ probability: "mask, grey", mask: "mask, black and white", image: "image", inside: "view" }[view] ?? view}`;
  if (!FORM[view]) $("download").disabled = true;
  if (ready) {
    const inside = binary(item.small, item.edits, threshold()).reduce((sum, value) => sum + value, 0);
    $("share").textContent = `${((100 * inside) / item.small.length).toFixed(1)} % of the image is foreground.`;
  } else $("share").textContent = "\u00a0";
}

/* ---------------------------------------------------------------- what the model sees */

/** Show what a model sees of an image; ask for it once. */
function look(item) {
  const found = item.inside?.of === item.of ? item.inside : null;
  if (found?.trouble) return $("inside").replaceChildren(element("p", found.trouble, "note bad alone"));
  if (!found?.rows) {
    $("inside").replaceChildren(element("p", "Looking inside …", "note alone"));
    $("inside").dataset.of = "";
    if (!found) fetchInside(item);
    return;
  }
  const key = `${item.key} ${item.of}`; // drawn anew for another image alone: it may be scrolled
  if ($("inside").dataset.of === key) return;
  $("inside").dataset.of = key;
  $("inside").scrollTop = 0;
  $("inside").replaceChildren(...found.rows.map(({ heading, images }) => {
    const row = element("section"), list = element("div", "", "tiles");
    list.append(...images.map(image => {
      const figure = element("figure"), shown = document.createElement("img");
      Object.assign(shown, { src: `data:${image.media_type};base64,${image.data}`, alt: `${heading}: ${image.caption}` });
      figure.append(shown, element("figcaption", image.caption));
      return figure;
    }));
    row.append(element("h3", heading), list);
    return row;
  }));
}

async function fetchInside(item) {
  const mine = item.inside = { of: item.of };
  try {
    mine.rows = (await service.inside(item.file, item.of)).rows;
  } catch (trouble) {
    mine.trouble = trouble.message;
  }
  refresh();
}

let calm;
function complain(trouble) {
  const box = $("trouble");
  box.querySelector("p").textContent = trouble.message;
  box.hidden = false;
  clearTimeout(calm);
  calm = setTimeout(() => { box.hidden = true; }, 12000);
}

/* ---------------------------------------------------------------- divider and brush */

let cut = 50;
function moveDivider(percent) {
  cut = Math.min(100, Math.max(0, percent));
  $("frame").style.setProperty("--cut", `${cut}%`);
  $("divider").setAttribute("aria-valuenow", Math.round(cut));
}

const place = event => {
  const box = $("frame").getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.width]; // both in widths
};

$("divider").addEventListener("pointerdown", event => {
  event.target.setPointerCapture?.(event.pointerId);
  $("divider").focus();
  event.preventDefault();
  const move = at => moveDivider(place(at)[0] * 100);
  const end = () => { removeEventListener("pointermove", move); removeEventListener("pointerup", end); removeEventListener("pointercancel", end); };
  addEventListener("pointermove", move);
  addEventListener("pointerup", end);
  addEventListener("pointercancel", end);
});
$("divider").addEventListener("keydown", event => {
  const step = { ArrowLeft: -2, ArrowRight: 2, ArrowDown: -2, ArrowUp: 2, Home: -100, End: 100 }[event.key];
  if (!step) return;
  event.preventDefault();
  moveDivider(cut + step);
});

function choose(which) {
  brush = brush === which ? null : which;
  if (brush && cut > 5) moveDivider(0); // what is painted should be seen everywhere
  if (!brush) $("cursor").hidden = true;
  refresh();
}

const radius = () => Number($("size").value) / 200; // half of it, as a share of the width

function cursorAt([x, y]) {
  const cursor = $("cursor"), box = $("frame").getBoundingClientRect(), side = `${2 * radius() * box.width}px`;
  cursor.hidden = !brush || shown?.state !== "ready";
  Object.assign(cursor.style, { left: `${x * box.width}px`, top: `${y * box.width}px`, width: side, height: side });
}

function begin(at) {
  const stroke = { add: brush === "add", radius: radius(), points: [at] };
  shown.strokes.push(stroke);
  segment(shown.edits, shown.width, shown.height, at, at, stroke);
  refresh();
  return stroke;
}

function extend(stroke, at) {
  segment(shown.edits, shown.width, shown.height, stroke.points.at(-1), at, stroke);
  stroke.points.push(at);
  refresh();
}

$("after").addEventListener("pointerdown", event => {
  if (!brush || shown?.state !== "ready" || event.button) return;
  event.preventDefault();
  $("after").focus({ preventScroll: true });
  $("after").setPointerCapture(event.pointerId);
  const item = shown, stroke = begin(place(event));
  const move = to => { if (shown === item) for (const each of to.getCoalescedEvents?.() ?? [to]) extend(stroke, place(each)); };
  const end = () => { for (const [kind, listener] of [["pointermove", move], ["pointerup", end], ["pointercancel", end]]) $("after").removeEventListener(kind, listener); };
  for (const [kind, listener] of [["pointermove", move], ["pointerup", end], ["pointercancel", end]]) $("after").addEventListener(kind, listener);
});
$("frame").addEventListener("pointermove", event => { if (brush) cursorAt(place(event)); });
$("frame").addEventListener("pointerleave", () => { $("cursor").hidden = true; });

let hand = [0.5, 0.4];
$("after").addEventListener("keydown", event => {
  if (!brush || shown?.state !== "ready") return;
  const step = Math.max(0.005, radius() / 2);
  const [dx, dy] = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key] ?? [0, 0];
  if (!dx && !dy && event.key !== " ") return;
  event.preventDefault();
  hand = [Math.min(1, Math.max(0, hand[0] + dx)), Math.min(shown.height / shown.width, Math.max(0, hand[1] + dy))];
  cursorAt(hand);
  if (event.key === " ") begin(hand);
});

function undo(all) {
  if (!shown?.strokes.length) return;
  shown.strokes.length = all ? 0 : shown.strokes.length - 1;
  shown.edits = rasterise(shown.strokes, shown.width, shown.height);
  refresh();
}

/* ---------------------------------------------------------------- files out */

/** One form of an item as a PNG, at the size of its image. */
async function file(item, form) {
  const { values, width, height } = item.map;
  if (form === "mask" && !item.strokes.length) return item.blob; // the very bytes of the service
  const edits = rasterise(item.strokes, width, height);
  if (form === "mask") return png(corrected(values, edits), width, height, 1);
  const mask = binary(values, edits, threshold());
  if (form === "binary") return png(mask.map(value => value * 255), width, height, 1);
  const bitmap = await createImageBitmap(item.bitmapSource, { colorSpaceConversion: "none" });
  const pixels = paint(form, drawn(bitmap, width, height).data, values, edits, width, height, threshold(), $("soft").checked);
  bitmap.close();
  if (form === "cutout") return png(pixels, width, height, 4);
  const rgb = new Uint8Array(width * height * 3);
  for (let i = 0; i < width * height; i++) for (let c = 0; c < 3; c++) rgb[3 * i + c] = pixels[4 * i + c];
  return png(rgb, width, height, 3);
}

const FORM = { overlay: "overlay", mask: "binary", probability: "mask", cutout: "cutout" };

async function busy(button, work) {
  button.disabled = true;
  try {
    await work();
  } catch (trouble) {
    complain(trouble);
  } finally {
    button.disabled = false;
    refresh();
  }
}

$("download").addEventListener("click", () => busy($("download"), async () => save(await file(shown, FORM[view]), `${shown.name}-${FORM[view]}.png`)));
$("download-all").addEventListener("click", () => busy($("download-all"), async () => {
  const files = [];
  for (const item of items.filter(each => each.state === "ready"))
    for (const form of ["mask", "binary", "cutout", "overlay"]) files.push([`${form}/${item.name}.png`, await file(item, form)]);
  save(await zip(files), "focus-masks.zip");
}));
$("keep").addEventListener("click", () => busy($("keep"), async () => {
  const item = shown, { collected } = await service.keep(item.file, await file(item, "binary"));
  $("kept").textContent = `Saved. ${collected} ${collected === 1 ? "pair is" : "pairs are"} kept for training.`;
  $("kept").hidden = false;
}));

/* ---------------------------------------------------------------- prompts */

$("prompts").addEventListener("submit", event => {
  event.preventDefault();
  busy($("judge"), async () => {
    const item = shown, sides = ["foreground", "background"].map(side => $(`prompt-${side}`).value.trim());
    const { pairs } = await service.judge(item.file, await file(item, "binary"), model().name, ...sides);
    if (shown !== item) return;
    $("judged").replaceChildren(...pairs.map(judgement));
    $("judged").hidden = false;
  });
});

function judgement(pair) {
  const row = element("li"), rights = [["mask", pair.foreground_right], ["rest", pair.background_right]];
  const told = rights.map(([what, right]) => `${right ? "✓" : "✗"} ${what}`).join(" ");
  row.append(element("q", pair.foreground), " / ", element("q", pair.background), element("small", `${sentence(pair.source)} ${told}, margin ${signed(pair.margin)}`));
  return row;
}

const signed = value => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;

/* ---------------------------------------------------------------- the model's card */

function element(name, text = "", className = "") {
  return Object.assign(document.createElement(name), { textContent: text, className });
}

function table(head, rows) {
  const made = document.createElement("table"), body = document.createElement("tbody");
  if (head.length) {
    const top = document.createElement("thead"), line = document.createElement("tr");
    line.append(...head.map((text, i) => element("th", text, i ? "number" : "")));
    top.append(line);
    made.append(top);
  }
  for (const row of rows) {
    const line = document.createElement("tr");
    line.append(...row.map((text, i) => element(i ? "td" : "th", text, head.length && i ? "number" : "")));
    body.append(line);
  }
  made.append(body);
  const scroll = element("div", "", "scroll");
  scroll.append(made);
  return scroll;
}

const figure = value => (typeof value === "number" ? (Math.abs(value) < 2 ? value.toFixed(3) : value.toFixed(1)) : "–");

function about() {
  const card = model();
  if (!card) return;
  const body = $("card-body");
  $("card-title").textContent = card.name;
  body.replaceChildren(element("p", `Task ${card.task}: ${sentence(card.title)}`));
  if (card.prompts.length) body.append(element("h3", "Prompts"));
  for (const pair of card.prompts) body.append(element("blockquote", `foreground: ${pair.foreground}`), element("blockquote", `background: ${pair.background}`));
  const scored = figures(card);
  if (scored.length) body.append(element("h3", "Figures"), ...scored);
  body.append(element("h3", "What it is"), table([], Object.entries(card.facts)));
  if (card.known) {
    const { licence } = card.known;
    body.append(element("h3", "Licence"), table([], [["code", licence.code], ["weights", licence.weights], ["data", licence.data], ["from", card.known.distribution]].filter(row => row[1])));
  }
  $("card").showModal();
}

function figures(card) {
  const made = [];
  const known = card.known?.figures ?? [];
  if (known.length) {
    const names = [...new Set(known.flatMap(row => Object.keys(row.metrics)))];
    made.push(table(["on", ...names], known.map(row => [`${row.data}${row.protocol ? ` (${row.protocol})` : ""}`, ...names.map(name => figure(row.metrics[name]))])));
  }
  const parts = Object.entries(card.scores);
  if (parts.length) {
    const names = [...new Set(parts.flatMap(([, scores]) => Object.keys(scores)))];
    made.push(table(["on its own images", ...names], parts.map(([part, scores]) => [part, ...names.map(name => figure(scores[name]))])));
  }
  return made;
}

/* ---------------------------------------------------------------- events */

$("files").addEventListener("change", event => { take(event.target.files); event.target.value = ""; });
$("model").addEventListener("change", modelChosen);
$("about").addEventListener("click", about);
$("card").addEventListener("click", event => { if (event.target === $("card")) $("card").close(); });
$("trouble").querySelector("button").addEventListener("click", () => { $("trouble").hidden = true; });
$("example").addEventListener("click", () => busy($("example"), async () => take([await service.example(model().name, ++examples)])));
for (const id of ["threshold", "size", "soft"]) $(id).addEventListener("input", refresh);
for (const radio of document.querySelectorAll("input[name=view]")) radio.addEventListener("change", () => { view = radio.value; refresh(); });
$("brush-add").addEventListener("click", () => choose("add"));
$("brush-take").addEventListener("click", () => choose("take"));
$("undo").addEventListener("click", () => undo(false));
$("reset").addEventListener("click", () => undo(true));
addEventListener("resize", refresh);

addEventListener("paste", event => { if (event.clipboardData?.files.length) take(event.clipboardData.files); });
let over = 0;
addEventListener("dragenter", event => { if (event.dataTransfer?.types.includes("Files")) { over++; $("veil").hidden = false; } });
addEventListener("dragleave", () => { over = Math.max(0, over - 1); if (!over) $("veil").hidden = true; });
addEventListener("dragover", event => event.preventDefault());
addEventListener("drop", event => {
  event.preventDefault();
  over = 0;
  $("veil").hidden = true;
  if (event.dataTransfer?.files.length) take(event.dataTransfer.files);
});

addEventListener("keydown", event => {
  if (event.target.matches?.("input:not([type=radio]):not([type=range]), select, dialog *") || $("work").hidden) return;
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") { event.preventDefault(); return undo(false); }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const views = [...document.querySelectorAll("input[name=view]")], at = items.indexOf(shown);
  if (views[event.key - 1]) { views[event.key - 1].click(); event.preventDefault(); }
  else if (event.key === "b") choose("add");
  else if (event.key === "e") choose("take");
  else if (event.key === "PageDown" && items[at + 1]) { event.preventDefault(); show(items[at + 1]); }
  else if (event.key === "PageUp" && items[at - 1]) { event.preventDefault(); show(items[at - 1]); }
});

moveDivider(50);
const started = start();
