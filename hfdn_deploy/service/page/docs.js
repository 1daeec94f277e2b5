"use strict";

// Shows openapi.json without loading anything from the network.

function element(name, text, ...children) {
  const made = document.createElement(name);
  made.textContent = text;
  made.append(...children);
  return made;
}

function table(head, rows) {
  const cells = (kind, row) => element("tr", "", ...row.map((text) => element(kind, text)));
  return element("table", "", cells("th", head), ...rows.map((row) => cells("td", row)));
}

function describe(path, method, facts) {
  const article = element("article", "", element("h2", `${method.toUpperCase()} ${path}`), element("p", facts.description ?? ""));
  if (facts.security) article.append(element("p", "Requires the bearer token."));
  if (facts.requestBody) {
    article.append(table(["body"], Object.keys(facts.requestBody.content).map((kind) => [kind])));
  }
  if (facts.parameters) {
    const rows = facts.parameters.map((p) => [p.name, (p.schema.enum ?? []).join(", "), p.description ?? ""]);
    article.append(table(["parameter", "values", ""], rows));
  }
  const answers = Object.entries(facts.responses).map(([status, a]) => [status, a.description]);
  article.append(table(["status", ""], answers));
  return article;
}

async function main() {
  const upscale = new URL("v1/upscale", location.href);
  document.getElementById("example").textContent = `curl -F image=@photo.jpg '${upscale}?scale=4&format=png' -o out.png`;
  const api = await (await fetch("openapi.json")).json();
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, facts] of Object.entries(methods)) {
      document.getElementById("paths").append(describe(path, method, facts));
    }
  }
}

main();
