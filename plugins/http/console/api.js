// The management API and the chat, over fetch. The key stays in memory: it is never stored.

export const ROOT = "/byenatos/v1";

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// Reads server-sent events from text that is cut anywhere: `feed` returns those that are whole, as {name, data}.
export class EventReader {
  #rest = "";

  feed(text) {
    const blocks = (this.#rest + text).replace(/\r\n/g, "\n").split("\n\n");
    this.#rest = blocks.pop();
    const events = [];
    for (const block of blocks) {
      let name = "message";
      const data = [];
      for (const line of block.split("\n")) {
        const [, field, value] = /^([^:]*):? ?(.*)$/.exec(line);
        if (field === "event") name = value;
        if (field === "data") data.push(value);
      }
      if (data.length) events.push({ name, data: data.join("\n") });
    }
    return events;
  }
}

export class Api {
  key = "";

  async #send(method, path, body, accept, signal, headers = {}) {
    const sent = { accept, ...headers };
    if (this.key) sent.authorization = `Bearer ${this.key}`;
    if (body !== undefined) sent["content-type"] = "application/json";
    const answer = await fetch(path, { method, headers: sent, body: body && JSON.stringify(body), signal });
    if (!answer.ok) {
      const said = await answer.json().catch(() => null);
      throw new ApiError(answer.status, said?.error?.message ?? `HTTP ${answer.status}`);
    }
    return answer;
  }

  async get(path) {
    return (await this.#send("GET", ROOT + path, undefined, "application/json")).json();
  }

  async remove(path) {
    await this.#send("DELETE", ROOT + path, undefined, "application/json");
  }

  async *#events(answer) {
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    const events = new EventReader();
    try {
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        yield* events.feed(value);
      }
    } finally {
      reader.cancel().catch(() => {});
    }
  }

  // Yield {name, data} as things happen in the kernel.
  async *happenings(signal) {
    yield* this.#events(await this.#send("GET", `${ROOT}/events`, undefined, "text/event-stream", signal));
  }

  async #post(path) {
    return (await this.#send("POST", ROOT + path, undefined, "application/json")).json();
  }

  // Roll the last swap of a slot back while its old model is kept; returns the last step.
  async swapBack(slot) {
    return this.#post(`/slots/${encodeURIComponent(slot)}/swap/back`);
  }

  // Give up the swap of a slot that has not switched yet; returns the last step.
  async cancelSwap(slot) {
    return this.#post(`/slots/${encodeURIComponent(slot)}/swap/cancel`);
  }

  // Yield the steps of a swap until it has switched; throws what it failed with. What follows comes as events.
  async *swap(slot, model, strategy) {
    const path = `${ROOT}/slots/${encodeURIComponent(slot)}/swap`;
    const order = { model, strategy, reason: "console" };
    const answer = await this.#send("POST", path, order, "text/event-stream");
    for await (const { name, data } of this.#events(answer)) {
      const said = JSON.parse(data);
      if (name === "error") throw new ApiError(0, said.error.message);
      yield said;
    }
  }

  // Yield an answer's pieces: its text, and where it moved to. Throws if it broke off, also if its end never came.
  async *ask(slot, session, text, signal) {
    const body = { model: slot, stream: true, messages: [{ role: "user", content: text }] };
    const headers = { "x-byenatos-session": session };
    const answer = await this.#send("POST", "/v1/chat/completions", body, "text/event-stream", signal, headers);
    for await (const { data } of this.#events(answer)) {
      if (data === "[DONE]") return;
      const said = JSON.parse(data);
      if (said.error) throw new ApiError(0, said.error.message);
      const text = said.choices?.[0]?.delta?.content ?? "";
      const moved = said.byenatos?.moved ?? null;
      if (text || moved) yield { text, moved };
    }
    throw new ApiError(0, "the answer broke off");
  }
}
