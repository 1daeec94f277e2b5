// Shared by the page of the service and the static page: take an image, upscale it, show it before
// and after, and offer it for download.

export const $ = (id) => document.getElementById(id);

let upscale = null; // (file, signal, progress) to { blob, name, milliseconds, model, note }
let file = null; // the last chosen file
let running = null; // the AbortController of the current run
let urls = [];

export function say(text, kind = "") {
  $("status").textContent = text;
  $("status").className = kind;
}

export function start(how) {
  upscale = how;
  $("needs").remove();
}

export async function again() {
  if (!file) return;
  running?.abort();
  const mine = (running = new AbortController());
  const sent = file;
  const begin = performance.now();
  busy(true);
  say("Upscaling…", "busy");
  try {
    const result = await upscale(sent, mine.signal, (share) => mine === running && progress(share));
    if (mine !== running) return;
    await show(sent, result, performance.now() - begin);
  } catch (error) {
    if (mine !== running) return;
    clear();
    if (error.name === "AbortError") say("Cancelled.");
    else say(error.message, "bad");
  }
  running = null;
  busy(false);
}

function busy(whether) {
  $("cancel").hidden = !whether;
  $("progress").hidden = true;
}

function progress(share) {
  $("progress").hidden = false;
  $("progress").value = share;
}

// The shown image and the download must belong to the same image as the message.
function clear() {
  $("result").hidden = true;
  $("drop").classList.remove("small");
  for (const id of ["before", "after"]) $(id).removeAttribute("src");
  $("download").removeAttribute("href");
  urls.forEach((old) => URL.revokeObjectURL(old));
  urls = [];
}

async function show(sent, { blob, name, milliseconds, model, note = "" }, all) {
  const before = URL.createObjectURL(sent);
  const after = URL.createObjectURL(blob);
  $("before").src = before;
  $("after").src = after;
  await Promise.all([$("before").decode(), $("after").decode()]);
  urls.forEach((old) => URL.revokeObjectURL(old));
  urls = [before, after];
  const [width, height] = [$("after").naturalWidth, $("after").naturalHeight];
  $("result").hidden = false;
  // As large as fits, but at most four screen pixels per image pixel.
  $("compare").style.aspectRatio = `${width} / ${height}`;
  $("compare").style.maxWidth = `min(${4 * width}px, ${(80 * width) / height}vh)`;
  $("drop").classList.add("small");
  $("size").textContent = `${$("before").naturalWidth}×${$("before").naturalHeight} → ${width}×${height}`;
  $("compute").textContent = duration(milliseconds);
  $("total").textContent = duration(all);
  $("model").textContent = model;
  $("download").href = after;
  $("download").download = name;
  say(`Done. ${note}Drag the line, or use the arrow keys.`);
}

const duration = (ms) => (ms < 1e4 ? `${Math.round(ms)} ms` : `${(ms / 1e3).toFixed(1)} s`);

// The file name of a result.
export const named = (sent, scale, suffix) => `${sent.name.replace(/\.[^.]*$/, "")}_x${scale}.${suffix}`;

function take(chosen) {
  if (!chosen) return;
  file = chosen;
  again();
}

$("file").addEventListener("change", () => { take($("file").files[0]); $("file").value = ""; });
$("cancel").addEventListener("click", () => { running.abort(); $("file").focus(); });
$("slider").addEventListener("input", () => $("compare").style.setProperty("--at", `${$("slider").value}%`));
$("controls").addEventListener("submit", (event) => event.preventDefault());
document.addEventListener("dragover", (event) => { event.preventDefault(); $("drop").classList.add("over"); });
document.addEventListener("dragleave", () => $("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  take(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => take(event.clipboardData.files[0]));
