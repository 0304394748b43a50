// Charts of the last minutes, drawn as paths in the page's own SVG elements. A value that is not known leaves a gap.

import { time } from "./view.js";

const KEPT = 150;
const [WIDTH, HEIGHT] = [240, 60]; // of the viewBox

// The least of 1, 2, 5, 10, 20… that is not below `value`: so a scale changes seldom.
export function ceiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= value * 0.999999);
}

// The path through `values`, newest at the right edge; `closed` goes down to the ground where it is interrupted.
export function path(values, most, closed) {
  const step = WIDTH / (KEPT - 1);
  const first = KEPT - values.length;
  const height = (value) => (HEIGHT - (value / most) * (HEIGHT - 4)).toFixed(1);
  let [drawn, open] = ["", null];
  values.forEach((value, at) => {
    const x = ((first + at) * step).toFixed(1);
    if (value !== null) {
      if (open === null) drawn += closed ? `M${x} ${HEIGHT}L${x} ${height(value)}` : `M${x} ${height(value)}`;
      else drawn += `L${x} ${height(value)}`;
    }
    if (closed && open !== null && (value === null || at === values.length - 1)) drawn += `L${value === null ? open : x} ${HEIGHT}Z`;
    open = value === null ? null : x;
  });
  return drawn;
}

export class Chart {
  #points = [];
  #chosen = null; // how many points before the newest one; null: none
  #say;

  // `figure` holds an svg and an output; `say(value)` writes a value with its unit.
  constructor(figure, say) {
    this.figure = figure;
    this.svg = figure.querySelector("svg");
    this.output = figure.querySelector("output");
    this.#say = say;
    this.svg.addEventListener("keydown", (event) => this.#key(event));
    this.svg.addEventListener("blur", () => this.#choose(null));
    this.svg.addEventListener("pointerleave", () => this.#choose(null));
    this.svg.addEventListener("pointermove", (event) => {
      const { left, width } = this.svg.getBoundingClientRect();
      this.#choose(Math.round((1 - (event.clientX - left) / width) * (KEPT - 1)));
    });
  }

  add(value, at = Date.now() / 1000) {
    this.#points.push({ value, at });
    if (this.#points.length > KEPT) this.#points.shift();
    this.draw();
  }

  draw() {
    const values = this.#points.map((point) => point.value);
    const known = values.filter((value) => value !== null);
    const most = ceiling(Math.max(0, ...known));
    this.svg.querySelector(".area").setAttribute("d", path(values, most, true));
    this.svg.querySelector(".line").setAttribute("d", path(values, most, false));
    const back = this.#chosen ?? 0;
    const point = this.#points.at(-1 - back);
    const x = (((KEPT - 1 - back) * WIDTH) / (KEPT - 1)).toFixed(1);
    this.svg.querySelector(".mark").setAttribute("d", this.#chosen === null ? "" : `M${x} 0V${HEIGHT}`);
    const value = point && point.value !== null ? this.#say(point.value) : "–";
    this.output.textContent = this.#chosen === null ? value : `${time(point.at)} · ${value}`;
    this.figure.querySelector(".most").textContent = this.#say(most);
    const title = this.figure.querySelector("figcaption span").textContent;
    this.svg.setAttribute("aria-label", `${title}: ${this.output.textContent}`);
  }

  #choose(back) {
    this.#chosen = back === null || !this.#points.length ? null : Math.min(Math.max(back, 0), this.#points.length - 1);
    if (this.#points.length) this.draw();
  }

  #key(event) {
    const now = this.#chosen ?? 0;
    const chosen = { ArrowLeft: now + 1, ArrowRight: now - 1, Home: KEPT, End: 0, Escape: null }[event.key];
    if (chosen === undefined) return;
    event.preventDefault();
    this.#choose(chosen);
  }
}
