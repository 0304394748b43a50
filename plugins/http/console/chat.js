// The chat: a session of the kernel's, so that it goes on whatever is plugged into its slot.

import { find, make } from "./view.js";

export class Chat {
  #api;
  #say;
  #model;
  #session = "";
  #running = null;
  #head = null;

  // `modelOf(slot)` names what is plugged into a slot now.
  constructor(api, say, modelOf) {
    this.#api = api;
    this.#say = say;
    this.#model = modelOf;
    this.begin();
    find("ask").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#ask();
    });
    find("prompt").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        find("ask").requestSubmit();
      }
    });
    find("stop").addEventListener("click", () => this.#running?.abort());
    find("chat-new").addEventListener("click", () => {
      this.begin();
      find("prompt").focus();
    });
  }

  begin() {
    this.#running?.abort();
    this.#session = `console-${crypto.randomUUID()}`;
    find("turns").replaceChildren();
  }

  // Go on with a stored conversation.
  open(transcript) {
    this.begin();
    this.#session = transcript.info.id;
    find("chat-slot").value = transcript.info.slot;
    for (const turn of transcript.turns) {
      const text = (turn.message.parts ?? []).map((part) => part.text ?? "").join("");
      this.#turn(turn.message.role === "user" ? this.#say("you") : (turn.model ?? turn.message.role), text);
    }
    find("prompt").focus();
  }

  #turn(who, text) {
    const words = make("span", {}, text);
    const turn = make("div", { class: "turn" }, make("b", {}, who), words);
    find("turns").append(turn);
    this.#scroll();
    return words;
  }

  // The answer goes on at another model.
  #moved(where) {
    find("turns").append(make("p", { class: "moved" }, this.#say("moved", where)));
    this.#head = this.#turn(where.to, "");
  }

  #scroll() {
    const turns = find("turns");
    turns.scrollTop = turns.scrollHeight;
  }

  #busy(running) {
    this.#running = running;
    find("send").disabled = running !== null;
    find("stop").hidden = running === null;
  }

  async #ask() {
    const text = find("prompt").value.trim();
    if (!text || this.#running) return;
    const slot = find("chat-slot").value;
    const running = new AbortController();
    find("prompt").value = "";
    this.#turn(this.#say("you"), text);
    this.#head = this.#turn(this.#model(slot), "");
    this.#busy(running);
    const asked = performance.now();
    let first = 0;
    let note = "";
    try {
      for await (const piece of this.#api.ask(slot, this.#session, text, running.signal)) {
        if (piece.moved) this.#moved(piece.moved);
        if (!piece.text) continue;
        first ||= performance.now() - asked;
        this.#head.append(piece.text);
        this.#scroll();
      }
      note = this.#say("first", { ms: Math.round(first) });
    } catch (error) {
      note = running.signal.aborted ? this.#say("stopped") : this.#say("failed_why", { why: error.message });
    }
    if (this.#running !== running) return;
    find("turns").append(make("p", { class: "quiet" }, note));
    this.#scroll();
    this.#busy(null);
  }
}
