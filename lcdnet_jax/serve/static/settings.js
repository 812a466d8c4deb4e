// The choice of weights and strength.

import { byId, element } from "./dom.js";
import { duration } from "./text.js";

export class Settings {
  /** `onChange()` is called when the user chooses something else. */
  constructor(onChange) {
    this.onChange = onChange;
    this.weights = [];
    this.cards = new Map();
    this.second = byId("second-weights");
    this.strength = byId("strength");
    this.note = byId("strength-note");
    this.second.addEventListener("change", () => this.update());
    this.strength.addEventListener("input", () => this.update());
  }

  /** Fills the choice with the server's answer to GET /weights. */
  fill({ default: usual, weights }) {
    this.weights = weights;
    const isUsual = (one) => one.name === usual;
    for (const one of [...weights.filter(isUsual), ...weights.filter((one) => !isUsual(one))]) {
      const input = element("input", {
        type: "radio", name: "weights", value: one.name, checked: isUsual(one),
      });
      input.addEventListener("change", () => this.update());
      const estimate = element("span", { className: "estimate" });
      const card = element("label", { className: "card" }, input,
        element("span", { className: "card-text" },
          element("span", { className: "card-head" },
            element("span", { className: "card-name" }, one.name), estimate),
          element("span", { className: "muted small" }, one.purpose)));
      byId("weights").append(card);
      this.cards.set(one.name, { input, estimate });
      this.second.append(element("option", { value: one.name }, one.name));
    }
    this.update();
  }

  /** Takes new speeds from the server's answer to GET /weights. */
  refresh({ weights }) {
    this.weights = weights;
  }

  find(name) {
    return this.weights.find((one) => one.name === name);
  }

  get first() {
    for (const [name, { input }] of this.cards) if (input.checked) return name;
    return null;
  }

  /** Names and strengths of what is to be computed: one or two. */
  get chosen() {
    const names = [this.first, this.second.value].filter(Boolean);
    return names.map((name) => ({
      name, strength: this.find(name).strength ? Number(this.strength.value) / 100 : null,
    }));
  }

  update() {
    if (this.first === null) return;
    for (const option of this.second.options) {
      option.disabled = option.value === this.first;
    }
    if (this.second.value === this.first) this.second.value = "";
    const chosen = this.chosen.map(({ name }) => this.find(name));
    const withoutStrength = chosen.filter((one) => !one.strength).map((one) => one.name);
    this.strength.disabled = withoutStrength.length === chosen.length;
    byId("strength-value").textContent = this.strength.disabled ? "" : `${this.strength.value} %`;
    this.strength.setAttribute("aria-valuetext", `${this.strength.value} %`);
    this.note.textContent = withoutStrength.length > 0
      ? `${withoutStrength.join(" and ")}: always 100 %, since the result differs in size or channels.`
      : "How much of the change is used. 100 % is the result of the network.";
    this.onChange();
  }

  /** Says how long each choice takes for an image, or for a megapixel if `photo` is null. */
  estimate(photo) {
    for (const one of this.weights) {
      const { estimate } = this.cards.get(one.name);
      const speed = one.seconds_per_megapixel;
      if (speed === null) estimate.textContent = "";
      else if (photo === null || photo.width === 0) {
        estimate.textContent = `${duration(speed)} per megapixel`;
      } else estimate.textContent = `about ${duration(speed * photo.megapixels)}`;
    }
  }
}
