// The description of the interface, /openapi.json, for people.

const main = document.getElementById("interface");
const make = (name, text = "", className = "") => Object.assign(document.createElement(name), { textContent: text, className });

function table(head, rows) {
  const made = document.createElement("table");
  for (const [cell, cells] of [["th", [head]], ["td", rows]]) {
    for (const row of cells) {
      const line = document.createElement("tr");
      line.append(...row.map(text => make(cell, text)));
      made.append(line);
    }
  }
  return made;
}

/** Text with what stands between backticks as code. */
function prose(text) {
  const made = make("p");
  made.append(...text.split("`").map((part, i) => (i % 2 ? make("code", part) : part)));
  return made;
}

function kind(schema) {
  const plain = schema.anyOf?.find(each => each.type !== "null") ?? schema;
  const bounds = [plain.exclusiveMinimum !== undefined && `above ${plain.exclusiveMinimum}`, plain.exclusiveMaximum !== undefined && `below ${plain.exclusiveMaximum}`];
  return [plain.enum?.join(", ") ?? plain.type ?? "", ...bounds.filter(Boolean)].join(", ");
}

function call(verb, path, route) {
  const upload = verb === "POST" && path !== "/v1/pairs" ? " --data-binary @photo.jpg" : path === "/v1/pairs" ? " -F image=@photo.jpg -F mask=@mask.png" : "";
  const query = (route.parameters ?? []).some(each => each.name === "form") ? "?form=cutout" : "";
  return `curl${upload} '${location.origin}${path}${query}'${query ? " -o cutout.png" : ""}`;
}

function article(verb, path, route) {
  const made = make("article"), title = make("h2");
  title.append(make("span", verb, "verb"), make("span", path));
  made.append(title, prose([route.summary, route.description].filter(Boolean).join(". ")));
  const parameters = (route.parameters ?? []).map(each => [each.name, kind(each.schema), each.schema.default || "", each.description ?? ""]);
  if (parameters.length) made.append(table(["option", "values", "usual", "what it does"], parameters));
  const answers = Object.entries(route.responses ?? {}).filter(([status]) => status >= 400 && status !== "422").map(([status, told]) => [status, told.description]);
  if (answers.length) made.append(table(["status", "when"], answers));
  made.append(make("pre", call(verb, path, route)));
  return made;
}

try {
  const told = await (await fetch("/openapi.json")).json();
  document.getElementById("lead").textContent = `${told.info.description} Every error is one line of JSON: {"error": "…"}. Version ${told.info.version}.`;
  for (const [path, verbs] of Object.entries(told.paths)) for (const [verb, route] of Object.entries(verbs)) main.append(article(verb.toUpperCase(), path, route));
} catch {
  document.getElementById("lead").textContent = "The service does not answer. Is focus serve still running?";
}
