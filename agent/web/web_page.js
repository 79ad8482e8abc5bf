"use strict";

const byId = (id) => document.getElementById(id);
const state = { image: null, ownUrl: null, done: new Set() }; // done: kinds of work whose models are loaded

/** An element with text or children; text never becomes markup. */
function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** The answer of the server; throws its message. */
async function request(path, options = {}) {
  const token = sessionStorage.getItem("textlens-token");
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server cannot be reached. Is textlens web still running?");
  }
  if (response.status === 401) {
    sessionStorage.removeItem("textlens-token");
    byId("token-form").hidden = false;
    byId("token").focus();
    throw new Error("The token is missing or wrong.");
  }
  const record = await response.json();
  if (!response.ok) throw new Error(record.error);
  return record;
}

const act = (action, record, signal) =>
  request(`api/${action}`, { method: "POST", body: JSON.stringify(record), headers: { "Content-Type": "application/json" }, signal });

/** Shows in `place` that work is under way, for how long, and how many wait; returns what ends it. */
function progress(place, kind) {
  const line = element("p", { className: "waiting" });
  const began = Date.now();
  place.prepend(line);
  const first = state.done.has(kind) ? "" : " The first time, the model is loaded.";
  line.textContent = `Working…${first}`;
  const timer = setInterval(async () => {
    const seconds = Math.round((Date.now() - began) / 1000);
    let waiting = 0;
    try { ({ waiting } = await request("api/waiting")); } catch { /* the request itself says what is wrong */ }
    line.setAttribute("aria-live", "off"); // a screen reader need not hear every second
    if (line.isConnected) line.textContent = `Working, ${seconds} s${waiting ? `, ${waiting} waiting` : ""}…${first}`;
  }, 1000);
  return () => { clearInterval(timer); line.remove(); };
}

/** Runs `work` once, with progress in `place`, and shows its result or its error on top. */
async function run(place, kind, button, work, show, keep = false) {
  if (!keep) place.replaceChildren();
  if (button) button.disabled = true;
  const end = progress(place, kind);
  let made;
  try {
    made = show(await work());
    state.done.add(kind);
  } catch (error) {
    made = error.name === "AbortError" ? null : element("p", { className: "error", textContent: error.message });
  }
  end();
  if (button) button.disabled = false;
  if (made) place.prepend(made);
}

function details(summary, text) {
  return text ? element("details", {}, element("summary", { textContent: summary }), element("pre", { textContent: text })) : null;
}

function notes(record) {
  return record.note ? element("p", { className: "note", textContent: record.note }) : null;
}

function answerCard(title, answer, record) {
  return element(
    "div", { className: "result" },
    element("p", { className: "note", textContent: title }),
    element("p", { className: "answer", textContent: answer }),
    notes(record),
    details("The prompt, with its shots", record.prompt),
    details("What the model wrote", record.completion && JSON.stringify(record.completion.text)),
  );
}

function wordsCard(record) {
  return element("div", {}, ...record.descriptions.map((one) =>
    element(
      "div", { className: "result" },
      element("p", { className: "encoder", textContent: one.encoder }),
      element("p", { textContent: one.text || "(nothing)" }),
      notes(one),
    )));
}

let newest = null; // of the images being sent: an older one must not overtake it

async function take(source, url, sample = null) {
  newest?.abort();
  const own = (newest = new AbortController());
  state.image = null;
  const shown = byId("shown");
  if (state.ownUrl) URL.revokeObjectURL(state.ownUrl);
  state.ownUrl = sample === null ? url : null;
  shown.src = url;
  shown.hidden = false;
  byId("hint").hidden = true;
  byId("choose").textContent = "Choose another image";
  for (const button of document.querySelectorAll("#samples button")) {
    button.setAttribute("aria-pressed", String(button.dataset.number === String(sample)));
  }
  for (const id of ["answers", "classes", "drawing"]) byId(id).replaceChildren();
  await run(byId("words"), "describe", null, async () => {
    const { image } = sample === null
      ? await request("api/images", { method: "POST", body: source, signal: own.signal })
      : await request(`api/images?sample=${sample}`, { method: "POST", signal: own.signal });
    if (own === newest) state.image = image;
    return act("describe", { image }, own.signal);
  }, wordsCard);
}

function takeFile(file) {
  if (!file || !file.type.startsWith("image/")) {
    byId("words").replaceChildren(element("p", { className: "error", textContent: "That is no image; choose a JPEG, PNG, WebP or another picture." }));
    return;
  }
  take(file, URL.createObjectURL(file));
}

function needsImage(place) {
  if (state.image) return false;
  place.prepend(element("p", { className: "error", textContent: newest ? "The image is still being sent." : "Choose an image first." }));
  return true;
}

function onSubmit(id, handle) {
  byId(id).addEventListener("submit", (event) => {
    event.preventDefault();
    handle(event.target, event.target.querySelector("button"));
  });
}

onSubmit("ask", (form, button) => {
  const place = byId("answers"), { image } = state;
  place.querySelectorAll(".error").forEach((one) => one.remove());
  if (needsImage(place)) return;
  const question = form.question.value;
  run(place, "ask", button, () => act("ask", { image, question }), (record) => answerCard(question, record.answer, record), true);
});

onSubmit("classify", (form, button) => {
  const place = byId("classes"), { image } = state;
  place.replaceChildren();
  if (needsImage(place)) return;
  const labels = form.labels.value;
  run(place, "ask", button, () => act("classify", { image, labels }), (record) => answerCard(labels, record.label, record));
});

byId("recreate").addEventListener("click", () => {
  const place = byId("drawing"), { image } = state;
  place.replaceChildren();
  if (needsImage(place)) return;
  run(place, "recreate", byId("recreate"), () => act("recreate", { image }), (record) =>
    element(
      "div", { className: "result" },
      element("p", { className: "note", textContent: "Drawn from these words alone:" }),
      element("p", { textContent: record.text }),
      element("img", { src: record.picture, alt: `A drawing of: ${record.text}` }),
    ));
});

onSubmit("upsample", (form, button) => {
  const prompt = form.prompt.value;
  run(byId("upsampled"), "upsample", button, () => act("upsample", { prompt }), (record) =>
    element(
      "div", { className: "result" },
      element("p", {}, ...record.parts.map((part) => (part.kept ? part.text : element("ins", { textContent: part.text })))),
      element("p", { className: "note", textContent: record.parts.some((part) => !part.kept) ? "Marked: what was added to your words." : "Nothing was added." }),
      ...(record.changed.length ? [element("p", { className: "warning", textContent: `The model had changed: ${record.changed.join("; ")}. Your words were kept.` })] : []),
      record.error ? element("p", { className: "error", textContent: record.error }) : null,
      notes(record),
      details("The prompt, with its shots", record.sent),
      details("What the model wrote", record.completion && JSON.stringify(record.completion.text)),
    ));
});

byId("choose").addEventListener("click", () => byId("file").click());
byId("file").addEventListener("change", (event) => {
  if (event.target.files.length) takeFile(event.target.files[0]);
  event.target.value = "";
});
for (const [name, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    byId("drop").classList.toggle("over", over);
  });
}
document.addEventListener("drop", (event) => takeFile(event.dataTransfer.files[0]));
document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
  if (file) takeFile(file);
});

async function open() {
  const about = await request("api/about");
  byId("about").textContent = `Words by ${about.encoders.join(" and ")}; answers by ${about.llm}.`;
  byId("decoder-note").textContent = about.decoder_note;
  byId("samples").replaceChildren(...await Promise.all(about.samples.map(async (name, number) => {
    const url = `api/samples/${number}`;
    const button = element("button", { type: "button", title: name }, element("img", { alt: name }));
    const token = sessionStorage.getItem("textlens-token");
    const source = token ? URL.createObjectURL(await (await fetch(url, { headers: { Authorization: `Bearer ${token}` } })).blob()) : url;
    button.firstChild.src = source;
    button.dataset.number = number;
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => take(null, source, number));
    return element("li", {}, button);
  })));
}

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("textlens-token", byId("token").value);
  byId("token-form").hidden = true;
  open().catch((error) => { byId("about").textContent = error.message; });
});
open().catch((error) => { byId("about").textContent = error.message; });
