// The slots: what is plugged into each, swapping it step by step, and the way back.

import { movesText, moveText, stepText } from "./tales.js";
import { fill, find, make, options } from "./view.js";

const STRATEGIES = ["graceful", "immediate", "session_aware", "background"];
const NOT_SWITCHED = new Set(["requested", "validated", "preparing", "prepared"]);

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
  element.hidden = text === "";
}

// A card is made once and then kept up to date, so that whoever uses it by keyboard, or has chosen something in it, is
// not disturbed by what changes meanwhile.
class Card {
  #say;

  constructor(name, say, acts) {
    this.#say = say;
    this.state = make("span");
    this.plugged = make("div");
    this.note = make("p", { class: "quiet" });
    this.model = make("select", { "aria-label": `${name}: ${say("model")}`, change: () => (this.chosen = true) });
    this.how = make("select", { "aria-label": `${name}: ${say("strategy")}`, change: () => this.#explain() });
    this.how.append(...STRATEGIES.map((one) => make("option", { value: one, title: say(`${one}_means`) }, say(one))));
    this.back = make("button", { type: "button", hidden: true, click: () => this.#press(this.back, acts.back) });
    this.cancel = make("button", { type: "button", hidden: true, click: () => this.#press(this.cancel, acts.cancel) }, say("cancel"));
    this.steps = make("p", { class: "steps quiet", role: "status", "data-slot": name });
    this.summary = make("summary");
    this.moves = make("ul", { class: "list" });
    this.details = make("details", { class: "quiet", hidden: true }, this.summary, this.moves);
    const submit = (event) => {
      event.preventDefault();
      this.chosen = false;
      acts.swap(this.model.value, this.how.value);
    };
    const form = make("form", { submit }, this.model, this.how, make("button", {}, say("swap")), this.back, this.cancel);
    this.element = make("li", {}, make("strong", {}, name), " ", this.state, this.plugged, this.note, form, this.steps,
      this.details);
    this.#explain();
  }

  #explain() {
    this.how.title = this.#say(`${this.how.value}_means`);
    this.how.setAttribute("aria-description", this.how.title);
  }

  // A button that goes away when it has done its work leaves who pressed it at the next thing to use.
  async #press(button, act) {
    await act();
    if (button.hidden && [button, document.body].includes(document.activeElement)) this.model.focus();
  }

  show(slot, usable) {
    const say = this.#say;
    put(this.state, say(slot.state));
    this.state.className = slot.state === "ready" ? "good" : "bad";
    put(this.plugged, slot.model || say("empty"));
    const notes = [slot.detail];
    if (slot.waiting) notes.push(say("waiting", { n: slot.waiting }));
    if (slot.elsewhere) notes.push(say("elsewhere", { n: slot.elsewhere }));
    put(this.note, notes.filter(Boolean).join(" · "));
    options(this.model, usable);
    if (!this.chosen && document.activeElement !== this.model) this.model.value = slot.model;
    put(this.back, slot.kept ? say("back", { model: slot.kept }) : "");
  }

  step(step) {
    const say = this.#say;
    const text = step ? stepText(step, say) : "";
    if (this.steps.textContent !== text) this.steps.textContent = text;
    this.cancel.hidden = !NOT_SWITCHED.has(step?.state);
    const moves = step?.sessions ?? [];
    put(this.summary, movesText(moves, say));
    this.details.hidden = !moves.length;
    fill(this.moves, JSON.stringify(moves), () => moves.map((move) => make("li", {}, moveText(move, say))));
  }
}

export class Slots {
  #api;
  #say;
  #changed;
  #cards = new Map();
  #steps = new Map(); // by slot: the last step of its last swap, or why that failed

  // `changed` is called when something was done.
  constructor(api, say, changed) {
    this.#api = api;
    this.#say = say;
    this.#changed = changed;
  }

  show(slots, usable, language) {
    const list = find("slots");
    fill(list, JSON.stringify([language, slots.map((slot) => slot.name)]), () => {
      this.#cards = new Map(slots.map(({ name }) => [name, new Card(name, this.#say, this.#acts(name))]));
      return [...this.#cards.values()].map((card) => card.element);
    });
    for (const slot of slots) {
      this.#cards.get(slot.name).show(slot, usable);
      if (slot.swap) this.advanced(slot.swap);
      this.#cards.get(slot.name).step(this.#steps.get(slot.name));
    }
  }

  // A step of a swap. The same ones come by several ways, in any order: an older one changes nothing.
  advanced(step) {
    const known = this.#steps.get(step.slot);
    if (known && !(known instanceof Error) && (known.id > step.id || (known.id === step.id && known.at > step.at))) return;
    this.#set(step.slot, step);
  }

  #set(slot, step) {
    this.#steps.set(slot, step);
    this.#cards.get(slot)?.step(step);
  }

  #acts(slot) {
    const done = async (act) => {
      try {
        await act();
      } catch (error) {
        this.#set(slot, error);
      }
      await this.#changed();
    };
    return {
      swap: (model, strategy) => done(async () => {
        for await (const step of this.#api.swap(slot, model, strategy)) this.advanced(step);
      }),
      back: () => done(async () => this.advanced(await this.#api.swapBack(slot))),
      cancel: () => done(async () => this.advanced(await this.#api.cancelSwap(slot))),
    };
  }
}
