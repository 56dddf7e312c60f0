"use strict";
// The page reads well without this. It adds the filters above the gallery, and opens what is
// folded before printing.
(() => {
  const cards = [...document.querySelectorAll(".card")];
  const place = document.querySelector("#filters");
  const chosen = {};

  const count = document.createElement("p");
  count.className = "found";
  count.setAttribute("role", "status");

  const refresh = () => {
    let shown = 0;
    for (const card of cards) {
      card.hidden = Object.entries(chosen).some(([key, value]) => value !== null && card.dataset[key] !== value);
      shown += card.hidden ? 0 : 1;
    }
    count.textContent = shown === cards.length ? `${shown} samples` : `${shown} of ${cards.length} samples`;
  };

  const add = (key, words) => {
    const values = [...new Set(cards.map((card) => card.dataset[key]))].sort();
    if (values.length < 2) return;
    const label = document.createElement("label");
    label.textContent = words;
    const select = document.createElement("select");
    select.add(new Option("any", "any"));
    values.forEach((value, place) => select.add(new Option(value || "none", String(place))));
    select.addEventListener("change", () => {
      chosen[key] = select.value === "any" ? null : values[Number(select.value)];
      refresh();
    });
    label.append(select);
    place.append(label);
  };

  if (place && cards.length > 1) {
    add("given", "given");
    add("proposed", "proposed");
    add("tier", "tier");
    if (place.childElementCount) {
      place.append(count);
      refresh();
    }
  }

  addEventListener("beforeprint", () => {
    for (const folded of document.querySelectorAll("details")) folded.open = true;
  });
})();
