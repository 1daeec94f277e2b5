import { $, again, named, say, start } from "./common.js";

let models = [];
let limits = null;

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
    throw new Error("This service requires a token; enter it above.");
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
  try { detail = JSON.parse(text).detail; } catch { /* the server itself answers in plain text */ }
  return `${answer.status}: ${detail}`;
}

async function upscale(image, signal) {
  if (models.length === 0) await loadModels();
  if (image.size > limits.body_bytes) {
    throw new Error(`The file has ${image.size.toLocaleString()} bytes, and ${limits.body_bytes.toLocaleString()} are the limit; choose a smaller file.`);
  }
  const scale = chosen("scale");
  const query = new URLSearchParams({ scale, precision: chosen("precision") });
  const form = new FormData();
  form.append("image", image);
  const answer = await fetch(`v1/upscale?${query}`, { method: "POST", body: form, headers: headers(), signal });
  if (!answer.ok) throw new Error(await sentence(answer));
  const blob = await answer.blob();
  const timing = answer.headers.get("server-timing").split(", ");
  const stages = Object.fromEntries(timing.map((stage) => stage.split(";dur=")));
  const suffix = { "image/png": "png", "image/jpeg": "jpg", "image/webp": "webp" }[blob.type];
  return {
    blob,
    name: named(image, scale, suffix),
    milliseconds: stages.upscale,
    model: answer.headers.get("hfdn-model").replace("x", "×"),
  };
}

$("scales").addEventListener("change", again);
$("precisions").addEventListener("change", again);
$("token").addEventListener("change", () => loadModels().then(() => say("")).then(again).catch((error) => say(error.message, "bad")));

for (const id of ["api", "controls"]) $(id).hidden = false;
start(upscale);
loadModels().catch((error) => say(error.message, "bad"));
