// Many rows at once: arrows walk, one key takes a picture out, one action judges what is ticked.
// It stands on review.js; without either file the form does the same.
"use strict";

const ticks = () => [...card.querySelectorAll(".cells input")];

// Buttons say how many rows they are about.
const tell = () => {
  const count = ticks().filter((tick) => tick.checked).length;
  for (const place of card.querySelectorAll(".bar .count")) place.textContent = count;
  for (const button of card.querySelectorAll(".bar button")) button.disabled = count === 0;
};

const decideAll = async (form, submitter) => {
  if (busy) return;
  const fields = new FormData(form);
  const verdict = { uid: newId(fields.get("uid")), rows: fields.getAll("row").map(Number) };
  verdict.verdict = fields.get("verdict") ?? "relabel";
  if (submitter?.name === "verdict") verdict.verdict = submitter.value;
  if (submitter?.name === "label") verdict.label = submitter.value;
  if (!verdict.rows.length) {
    say("Nothing is ticked.", "bad");
    return;
  }
  busy = true;
  card.setAttribute("aria-busy", "true");
  if (verdict.verdict !== "undo") verdict.seconds = spent();
  try {
    await save(verdict, "/api/grid");
    // Near-duplicates are done with one action; of a kind, the next rows come.
    if (!fields.has("given") && verdict.verdict !== "undo") {
      window.location.assign("/");
      return;
    }
    const same = ["given", "proposed", "after"].filter((name) => fields.has(name));
    await show(`/grid/part?${same.map((name) => `${name}=${Number(fields.get(name))}`).join("&")}`);
    const done = verdict.label ? `labelled as ${verdict.label}` : WORDS[verdict.verdict];
    const next = document.getElementById("question")?.textContent ?? "";
    say(`Saved: ${verdict.rows.length} ${done}. ${next}`);
  } catch (error) {
    say(error.cause === "refused" ? `Refused: ${error.message}.` : "Saved, but the next rows did not come; reload the page.", "bad");
  } finally {
    busy = false;
    card.removeAttribute("aria-busy");
  }
};

// Go from picture to picture; true where the key was for the grid.
const stroll = (event) => {
  const all = ticks();
  if (!all.length) return false;
  const place = all.indexOf(document.activeElement);
  if (event.key === "x" && place >= 0) {
    all[place].click();
    return true;
  }
  const tops = all.map((tick) => tick.closest("li").getBoundingClientRect().top);
  const columns = Math.max(tops.filter((top) => top === tops[0]).length, 1);
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
  if (step === undefined) return false;
  const next = place < 0 ? 0 : place + step;
  all[Math.min(Math.max(next, 0), all.length - 1)].focus();
  return true;
};

card.addEventListener("change", (event) => {
  if (event.target.closest(".cells")) tell();
});

card.addEventListener("error", (event) => {
  if (!event.target.closest?.(".cells")) return;
  const name = document.createElement("span");
  name.className = "path";
  name.textContent = event.target.closest("label").querySelector("input").getAttribute("aria-label");
  event.target.replaceWith(name);
}, true);

// Parts of the page that come later are told of the same way.
new MutationObserver(tell).observe(card, { childList: true });
tell();
