// The review page: keys, posts that are repeated until they are saved, pictures fetched ahead.
// Every action is a form of the page, so that without this file a click does the same.
"use strict";

const card = document.getElementById("card");
const status = document.getElementById("status");
const KEPT = "errata-review-unsaved";
const MOST_SECONDS = 600;
let busy = false;
let seconds = 0;
let since = performance.now();

const say = (text, kind = "") => {
  status.textContent = text;
  status.className = `status ${kind}`;
};

const wait = (ms) => new Promise((done) => setTimeout(done, ms));

const newId = (fallback) => (crypto.randomUUID ? crypto.randomUUID() : fallback);

// Time counts only while the page can be seen, and a long pause is no work.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) seconds += (performance.now() - since) / 1000;
  else since = performance.now();
});

const spent = () => {
  const now = document.hidden ? 0 : (performance.now() - since) / 1000;
  return Math.min(Math.round((seconds + now) * 10) / 10, MOST_SECONDS);
};

// Send a verdict until the server says that it is on disk. Its id makes repeats harmless.
const save = async (verdict, where = "/api/verdicts") => {
  sessionStorage.setItem(KEPT, JSON.stringify({ where, verdict }));
  for (let turn = 0; ; turn += 1) {
    let told = "the server does not answer";
    try {
      const answer = await fetch(where, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(verdict),
      });
      if (answer.ok) break;
      const why = await answer.json().catch(() => ({}));
      told = [why.error, why.hint].filter(Boolean).join("; ") || `error ${answer.status}`;
      if (answer.status < 500 && answer.status !== 401) {
        sessionStorage.removeItem(KEPT);
        throw new TypeError(told, { cause: "refused" });
      }
    } catch (error) {
      if (error.cause === "refused") throw error;
    }
    say(`Not saved yet: ${told}. Your verdict is kept; trying again.`, "bad");
    await wait(Math.min(500 * 2 ** turn, 5000));
  }
  sessionStorage.removeItem(KEPT);
};

// The part of this page that changes, as its address asks for it.
const again = () => {
  const { pathname, search } = window.location;
  return (pathname === "/grid" ? "/grid/part" : "/card") + search;
};

// Counting the errors that are left, and guessing the next card, takes longer than a card; so the
// page asks for them once the card is there.
const count = async () => {
  if (busy) return;
  const place = card.querySelector(".progress .count");
  const row = card.querySelector(".card")?.dataset.row;
  const answer = await fetch(row ? `/progress?row=${row}` : "/progress").catch(() => null);
  if (!answer?.ok || !place?.isConnected) return;
  place.innerHTML = await answer.text();
  const following = place.querySelector("[data-following]")?.dataset.following;
  if (following) new Image().src = following;
};

const show = async (where = "/card") => {
  const answer = await fetch(where);
  if (!answer.ok) throw new Error(`error ${answer.status}`);
  // The server escapes every name and label; scripts inside would not run either.
  card.innerHTML = await answer.text();
  settle();
  window.scrollTo({ top: 0 });
  document.getElementById("question")?.focus({ preventScroll: true });
};

// What has to be done for each new card.
const settle = () => {
  seconds = 0;
  since = performance.now();
  const input = document.getElementById("pick");
  if (input) {
    input.removeAttribute("list");
    for (const [name, value] of [["role", "combobox"], ["aria-expanded", "false"],
      ["aria-controls", "matches"], ["aria-autocomplete", "list"]]) input.setAttribute(name, value);
  }
  for (const image of card.querySelectorAll("img")) {
    if (image.complete && image.naturalWidth) sharpen(image);
  }
  window.setTimeout(count, 300);
};

// Few pixels are shown as they are, not blurred.
const sharpen = (image) => {
  image.classList.toggle("tiny", Math.max(image.naturalWidth, image.naturalHeight) <= 96);
};

card.addEventListener("load", (event) => {
  if (event.target.tagName === "IMG") sharpen(event.target);
}, true);

card.addEventListener("error", (event) => {
  if (event.target.id !== "picture") return;
  event.target.hidden = true;
  const missing = card.querySelector(".missing");
  if (missing) missing.hidden = false;
}, true);

const WORDS = { keep: "kept", drop: "dropped", unsure: "left as unsure", undo: "taken back" };

const decide = async (fields) => {
  if (busy) return;
  busy = true;
  card.setAttribute("aria-busy", "true");
  const verdict = { uid: newId(fields.uid), row: Number(fields.row), verdict: fields.verdict };
  if (fields.verdict === "relabel") verdict.label = fields.label;
  if (fields.verdict !== "undo") verdict.seconds = spent();
  try {
    await save(verdict);
    await show(verdict.verdict === "undo" ? `/card?row=${verdict.row}` : "/card");
    const done = verdict.label ? `relabelled as ${verdict.label}` : WORDS[verdict.verdict];
    const next = document.getElementById("question")?.textContent ?? "";
    say(`Saved: ${done}. ${next}`);
  } catch (error) {
    say(error.cause === "refused" ? `Refused: ${error.message}.` : "Saved, but the next card did not come; reload the page.", "bad");
  } finally {
    busy = false;
    card.removeAttribute("aria-busy");
  }
};

card.addEventListener("submit", (event) => {
  event.preventDefault();
  const form = event.target;
  if (form.getAttribute("action") === "/grid") {
    decideAll(form, event.submitter);
    return;
  }
  const fields = Object.fromEntries(new FormData(form));
  if (event.submitter?.name) fields[event.submitter.name] = event.submitter.value;
  if (form.classList.contains("pick")) {
    const found = chosen() ?? matching(fields.label)[0];
    if (found === undefined) {
      say(`No class fits “${fields.label}”.`, "bad");
      return;
    }
    fields.label = found;
    if (found === card.querySelector(".card").dataset.given) fields.verdict = "keep";
  }
  decide(fields);
});

card.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-key=n]");
  const match = event.target.closest("#matches li");
  if (link) {
    event.preventDefault();
    show().then(() => say("")).catch(() => window.location.assign("/"));
  } else if (match) {
    document.getElementById("pick").value = match.textContent;
    match.closest("form").requestSubmit();
  }
});

// Choosing among many classes by a part of the name.
const names = [...document.querySelectorAll("#classes option")].map((option) => option.value);
const lower = names.map((name) => name.toLowerCase());

const matching = (typed) => {
  const part = typed.trim().toLowerCase();
  if (!part) return [];
  const ranked = [[], [], [], []];
  lower.forEach((name, i) => {
    const at = name.indexOf(part);
    if (at < 0) return;
    const starts = at === 0 || !/[\p{L}\p{N}]/u.test(name[at - 1]);
    ranked[name === part ? 0 : at === 0 ? 1 : starts ? 2 : 3].push(names[i]);
  });
  return ranked.flat();
};

const chosen = () => document.querySelector("#matches [aria-selected=true]")?.textContent;

const mark = (place) => {
  const list = [...document.querySelectorAll("#matches li")];
  list.forEach((item, i) => item.setAttribute("aria-selected", String(i === place)));
  const input = document.getElementById("pick");
  if (list[place]) input.setAttribute("aria-activedescendant", list[place].id);
  else input.removeAttribute("aria-activedescendant");
};

const offer = (found) => {
  const list = document.getElementById("matches");
  list.replaceChildren(...found.slice(0, 8).map((name, i) => {
    const item = document.createElement("li");
    item.id = `match-${i}`;
    item.setAttribute("role", "option");
    item.textContent = name;
    return item;
  }));
  list.hidden = !found.length;
  document.getElementById("pick").setAttribute("aria-expanded", String(found.length > 0));
  mark(found.length ? 0 : -1);
};

card.addEventListener("input", (event) => {
  if (event.target.id === "pick") offer(matching(event.target.value));
});

const typing = (event) => {
  const list = [...document.querySelectorAll("#matches li")];
  const place = list.findIndex((item) => item.getAttribute("aria-selected") === "true");
  if (event.key === "Escape") {
    event.target.value = "";
    offer([]);
    document.getElementById("question").focus({ preventScroll: true });
  } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    if (!list.length) return;
    mark((place + (event.key === "ArrowDown" ? 1 : list.length - 1)) % list.length);
  } else {
    return;
  }
  event.preventDefault();
};

document.addEventListener("keydown", (event) => {
  if (event.target.id === "pick") return typing(event);
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return undefined;
  if (event.target.closest?.("input:not([type=checkbox]), textarea, select")) return undefined;
  const key = event.key.toLowerCase();
  if (stroll(event)) {
    // The grid took it.
  } else if (key === "/" || key === "r") {
    document.getElementById("pick")?.focus();
  } else if (key === "?") {
    const keys = document.querySelector(".keys");
    keys.open = !keys.open;
  } else if (/^[a-z0-9]$/.test(key)) {
    const target = card.querySelector(`[data-key="${key}"]`);
    if (!target) return undefined;
    target.click();
  } else {
    return undefined;
  }
  event.preventDefault();
  return undefined;
});

// A verdict that was on its way when the page was closed or reloaded.
const resume = async () => {
  const kept = sessionStorage.getItem(KEPT);
  if (!kept) return;
  busy = true;
  try {
    const { where, verdict } = JSON.parse(kept);
    await save(verdict, where);
    await show(again());
    say("Saved what was still on its way.");
  } catch (error) {
    sessionStorage.removeItem(KEPT);
    say(`A verdict was refused: ${error.message}.`, "bad");
  } finally {
    busy = false;
  }
};

settle();
resume();
