"use strict";
// Filters, search and pages of the samples. Data is only ever set as text or as an attribute of an <img>, never as HTML.

const PER_PAGE = 10; // documents
const VERDICTS = { right: "Right", partly: "Partly right", wrong: "Wrong", none: "No answer", unscored: "No score" };
const MARKS = { right: "✓", partly: "◐", wrong: "✗", none: "–", unscored: "?" };
const data = JSON.parse(document.getElementById("data").textContent);

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== null)); // strings become text nodes
  return made;
}

function verdict(answer) {
  if (answer.answer === null) return "none";
  if (answer.score === null) return "unscored";
  return answer.score >= 1 ? "right" : answer.score > 0 ? "partly" : "wrong";
}

const shotsName = (shots) => (shots === null ? "no shots" : `${shots} ${shots === 1 ? "shot" : "shots"}`);

// Charts of which one of several is shown.
for (const choice of document.querySelectorAll("[data-choose]")) {
  const select = choice.querySelector("select");
  const show = () => {
    for (const figure of document.getElementById(choice.dataset.choose).children)
      figure.hidden = figure.dataset.value !== select.value;
  };
  select.addEventListener("change", show);
  show();
}

function prepare() {
  for (const doc of data.documents) {
    doc.answers.sort((a, b) => a.num_fewshot - b.num_fewshot);
    doc.search = [doc.id, doc.image, doc.type, doc.query, ...doc.references].filter(Boolean).join("\n").toLowerCase();
    for (const answer of doc.answers) {
      answer.verdict = verdict(answer);
      const words = (answer.words ?? []).map((one) => one.text);
      answer.search = [answer.answer, answer.completion, ...words].filter(Boolean).join("\n").toLowerCase();
    }
  }
}

function fill(select, values, name = (value) => value) {
  select.append(element("option", { value: "" }, "all"));
  for (const value of values) select.append(element("option", { value: JSON.stringify(value) }, name(value)));
  select.closest("label").hidden = values.length < 2;
}

function fillFilters(form) {
  const answers = data.documents.flatMap((doc) => doc.answers);
  const unique = (values) => [...new Set(values)];
  const known = Object.keys(data.contexts);
  const contexts = unique(answers.map((answer) => answer.context));
  const verdicts = new Set(answers.map((answer) => answer.verdict));
  fill(form.elements.task, unique(data.documents.map((doc) => doc.task)));
  fill(form.elements.context, contexts.sort((a, b) => known.indexOf(a) - known.indexOf(b)));
  fill(form.elements.num_fewshot, unique(answers.map((answer) => answer.num_fewshot)).sort((a, b) => a - b), shotsName);
  fill(form.elements.type, unique(data.documents.map((doc) => doc.type).filter((type) => type !== null)).sort());
  fill(form.elements.verdict, Object.keys(VERDICTS).filter((name) => verdicts.has(name)), (name) => VERDICTS[name]);
}

// Documents with those of their answers that pass every filter.
function matching(form) {
  const chosen = {};
  for (const name of ["task", "type", "context", "num_fewshot", "verdict"]) {
    const value = form.elements[name].value;
    if (value) chosen[name] = JSON.parse(value);
  }
  const passes = (thing, names) => names.every((name) => !(name in chosen) || thing[name] === chosen[name]);
  const text = form.elements.text.value.trim().toLowerCase();
  const found = [];
  for (const doc of data.documents) {
    if (!passes(doc, ["task", "type"])) continue;
    const whole = doc.search.includes(text);
    const answers = doc.answers.filter(
      (answer) => passes(answer, ["context", "num_fewshot", "verdict"]) && (whole || answer.search.includes(text)),
    );
    if (answers.length) found.push({ doc, answers });
  }
  return found;
}

function folded(answer) {
  const parts = [];
  const part = (name, text) => parts.push(element("h5", {}, name), element("pre", {}, text));
  if (answer.prompt !== null) part("Prompt", answer.prompt);
  if (answer.completion !== null) part("Completion", answer.completion);
  return parts;
}

function answerRow(answer) {
  const text = answer.answer === null ? "no answer" : answer.answer || "(empty)";
  const score = answer.score === null ? "score not known" : String(Number(answer.score.toFixed(3)));
  const told = VERDICTS[answer.verdict];
  const line = [
    element("span", { class: "shots" }, shotsName(answer.num_fewshot)),
    element("span", { class: "mark", role: "img", "aria-label": told, title: told }, MARKS[answer.verdict]),
    element("span", { class: "answer" }, answer.answer ? text : element("em", {}, text)),
    element("span", { class: "score" }, score),
  ];
  const more = folded(answer);
  return element(
    "li",
    { class: answer.verdict },
    more.length
      ? element("details", {}, element("summary", { class: "line" }, ...line), ...more)
      : element("div", { class: "line" }, ...line),
    ...[answer.error, answer.note].filter(Boolean).map((remark) => element("p", { class: "remark" }, remark)),
  );
}

function wordLines(words) {
  if (words === null) return element("p", { class: "words" }, element("em", {}, "words not logged"));
  if (!words.length || words.every((one) => one.text === "")) return element("p", { class: "words" }, element("em", {}, "no words"));
  const lines = words.map((one) => element("p", {}, element("span", { class: "label" }, one.label), one.text));
  return element("div", { class: "words" }, ...lines);
}

function contextBlock(name, answers) {
  const known = data.contexts[name] ?? { style: "floor", role: "" };
  const role = ["floor", "ceiling"].includes(known.role) ? element("span", { class: "role" }, known.role) : null;
  const swatch = element("span", { class: `swatch ${known.style}`, "aria-hidden": "true" });
  // Words are those of the image, so the same for every number of shots; shown once for each that differs.
  const blocks = new Map();
  for (const answer of answers) {
    const key = JSON.stringify(answer.words);
    if (!blocks.has(key)) blocks.set(key, []);
    blocks.get(key).push(answer);
  }
  const parts = [...blocks.values()].flatMap((same) => [
    wordLines(same[0].words),
    element("ul", { class: "answers" }, ...same.map(answerRow)),
  ]);
  return element("section", { class: "context" }, element("h4", {}, swatch, name, role), ...parts);
}

function picture(doc) {
  const url = data.images[doc.thumbnail];
  if (url) return element("img", { src: url, alt: doc.image ?? "" });
  return element("div", { class: "no-image" }, doc.thumbnail === null ? "image not logged" : "thumbnail not found");
}

function card({ doc, answers }) {
  const contexts = [...new Set(answers.map((answer) => answer.context))];
  const order = Object.keys(data.contexts);
  contexts.sort((a, b) => order.indexOf(a) - order.indexOf(b));
  const references = doc.references.map((text) => element("li", {}, text));
  return element(
    "article",
    { class: "card" },
    element(
      "div",
      { class: "side" },
      picture(doc),
      element("p", { class: "file" }, doc.image ?? doc.id),
      element("p", { class: "tags" }, element("span", {}, doc.task), doc.type === null ? null : element("span", {}, doc.type)),
    ),
    element(
      "div",
      { class: "body" },
      element("h3", {}, doc.query ?? doc.id),
      references.length ? element("ul", { class: "references", "aria-label": "References" }, ...references) : null,
      element("div", { class: "contexts" }, ...contexts.map((name) => contextBlock(name, answers.filter((answer) => answer.context === name)))),
    ),
  );
}

function start(form) {
  const gallery = document.getElementById("gallery");
  const count = document.getElementById("count");
  const pages = document.getElementById("pages");
  let found = [];
  let page = 0;

  function draw() {
    const last = Math.max(0, Math.ceil(found.length / PER_PAGE) - 1);
    gallery.replaceChildren(...found.slice(page * PER_PAGE, (page + 1) * PER_PAGE).map(card));
    pages.hidden = last === 0;
    pages.querySelector("span").textContent = `Page ${page + 1} of ${last + 1}`;
    pages.querySelector("[data-step='-1']").disabled = page === 0;
    pages.querySelector("[data-step='1']").disabled = page === last;
  }

  function search() {
    found = matching(form);
    page = 0;
    const answers = found.reduce((sum, one) => sum + one.answers.length, 0);
    const number = (value, name) => `${value.toLocaleString("en")} ${name}${value === 1 ? "" : "s"}`;
    count.textContent = answers ? `${number(found.length, "document")}, ${number(answers, "sample")}` : "No sample matches.";
    draw();
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  form.elements.text.addEventListener("input", search);
  for (const select of form.querySelectorAll("select")) select.addEventListener("change", search);
  form.addEventListener("reset", () => setTimeout(search));
  pages.addEventListener("click", (event) => {
    const step = Number(event.target.dataset.step ?? 0);
    if (!step) return;
    page += step;
    draw();
    document.getElementById("count").scrollIntoView({ block: "start" });
  });
  prepare();
  fillFilters(form);
  form.hidden = false;
  search();
}

const filters = document.getElementById("filters");
if (filters) start(filters);
