"use strict";

const $ = (id) => document.getElementById(id);
let models = [];
let limits = null;
let picture = null; // the File that was chosen last
let request = null; // the AbortController of the request under way
let urls = [];

function say(text, kind = "") {
  $("status").textContent = text;
  $("status").className = kind;
}

function headers() {
  const token = $("token").value;
  return token ? { Authorization: `Bearer ${token}` } : {};
}

function offer(id, name, values, label) {
  const chosen = document.querySelector(`input[name=${name}]:checked`)?.value;
  const field = $(id);
  field.querySelectorAll("label").forEach((old) => old.remove());
  for (const value of values) {
    const box = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "radio", name, value });
    input.checked = String(value) === chosen || (!values.map(String).includes(chosen) && value === values[0]);
    const text = Object.assign(document.createElement("span"), { textContent: label(value) });
    box.append(input, text);
    field.append(box);
  }
}

const chosen = (name) => document.querySelector(`input[name=${name}]:checked`).value;
const unique = (values) => [...new Set(values)];

function offerModels() {
  offer("scales", "scale", unique(models.map((m) => m.scale)).sort(), (s) => `×${s}`);
  offer("precisions", "precision", unique(models.map((m) => m.precision)), (p) => p);
}

async function loadModels() {
  const answer = await fetch("v1/models", { headers: headers() });
  if (answer.status === 401) {
    $("token-field").hidden = false;
    throw new Error("This service asks for a token; enter it above.");
  }
  if (!answer.ok) throw new Error(await sentence(answer));
  const facts = await answer.json();
  const first = models.length === 0;
  ({ models, limits } = facts);
  offerModels();
  if (first) document.querySelector(`input[name=scale][value="${models[0].scale}"]`).checked = true;
  const mega = (limits.pixels / 1e6).toFixed(1);
  $("limits").textContent = `PNG, JPEG or WebP, up to ${Math.floor(limits.body_bytes / 2 ** 20)} MiB and ${mega} megapixels`;
}

async function sentence(answer) {
  const text = await answer.text();
  let detail = text;
  try { detail = JSON.parse(text).detail; } catch { /* plain text is a sentence too */ }
  return `${answer.status}: ${detail}`;
}

async function upscale() {
  if (!picture) return;
  request?.abort();
  const mine = (request = new AbortController());
  try {
    if (models.length === 0) await loadModels();
    if (picture.size > limits.body_bytes) {
      throw new Error(`The file has ${picture.size.toLocaleString()} bytes, and ${limits.body_bytes.toLocaleString()} are the limit.`);
    }
    say("Upscaling…", "busy");
    const start = performance.now();
    const query = new URLSearchParams({ scale: chosen("scale"), precision: chosen("precision") });
    const form = new FormData();
    form.append("image", picture);
    const answer = await fetch(`v1/upscale?${query}`, { method: "POST", body: form, headers: headers(), signal: mine.signal });
    if (!answer.ok) throw new Error(await sentence(answer));
    const blob = await answer.blob();
    await show(picture, blob, answer.headers, performance.now() - start);
  } catch (error) {
    if (mine !== request || error.name === "AbortError") return;
    clear();
    say(error.message, "bad");
  }
}

// What is shown and offered for download must not be of another image than the message.
function clear() {
  $("result").hidden = true;
  $("drop").classList.remove("small");
  for (const id of ["before", "after"]) $(id).removeAttribute("src");
  $("download").removeAttribute("href");
  urls.forEach((old) => URL.revokeObjectURL(old));
  urls = [];
}

async function show(sent, blob, facts, milliseconds) {
  const stages = Object.fromEntries(
    facts.get("server-timing").split(", ").map((stage) => stage.split(";dur=")),
  );
  const before = URL.createObjectURL(sent);
  const after = URL.createObjectURL(blob);
  $("before").src = before;
  $("after").src = after;
  await Promise.all([$("before").decode(), $("after").decode()]);
  urls.forEach((old) => URL.revokeObjectURL(old));
  urls = [before, after];
  const [width, height] = [$("after").naturalWidth, $("after").naturalHeight];
  $("result").hidden = false;
  // As large as fits, but no larger than four pixels of the screen for one.
  $("compare").style.aspectRatio = `${width} / ${height}`;
  $("compare").style.maxWidth = `min(${4 * width}px, ${(80 * width) / height}vh)`;
  $("drop").classList.add("small");
  $("size").textContent = `${$("before").naturalWidth}×${$("before").naturalHeight} → ${width}×${height}`;
  $("compute").textContent = `${Math.round(stages.upscale)} ms`;
  $("total").textContent = `${Math.round(milliseconds)} ms`;
  $("model").textContent = facts.get("hfdn-model").replace("x", "×");
  const suffix = { "image/png": "png", "image/jpeg": "jpg", "image/webp": "webp" }[blob.type];
  $("download").href = after;
  $("download").download = `${sent.name.replace(/\.[^.]*$/, "")}_x${chosen("scale")}.${suffix}`;
  say("Done. Drag the line, or use the arrow keys.");
}

function take(file) {
  if (!file) return;
  picture = file;
  upscale();
}

$("file").addEventListener("change", () => { take($("file").files[0]); $("file").value = ""; });
$("slider").addEventListener("input", () => $("compare").style.setProperty("--at", `${$("slider").value}%`));
$("controls").addEventListener("submit", (event) => event.preventDefault());
$("scales").addEventListener("change", upscale);
$("precisions").addEventListener("change", upscale);
$("token").addEventListener("change", () => loadModels().then(() => say("")).then(upscale).catch((error) => say(error.message, "bad")));
document.addEventListener("dragover", (event) => { event.preventDefault(); $("drop").classList.add("over"); });
document.addEventListener("dragleave", () => $("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  take(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => take(event.clipboardData.files[0]));

loadModels().catch((error) => say(error.message, "bad"));
