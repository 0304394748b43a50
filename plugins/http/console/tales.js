// What happened, in words: steps of swaps, conversations that moved, triggers, drivers, models.

const LEVELS = ["kv", "tokens", "text", "drain"];

const seconds = (value) => `${value < 1 ? `${(value * 1000).toFixed(value < 0.01 ? 1 : 0)} ms` : `${value.toFixed(1)} s`}`;

// A step of a swap, or the error that it ended with.
export function stepText(step, say) {
  if (step instanceof Error) return say("failed_why", { why: step.message });
  const words = [`${step.source || say("empty")} → ${step.target}`, say(step.state), `${(step.elapsed_s ?? 0).toFixed(1)} s`];
  if (step.mode === "sequential") words.push(say("sequential"));
  if (step.moved_streams) words.push(say("streams_moved", { n: step.moved_streams }));
  if (step.detail) words.push(step.detail);
  return words.join(" · ");
}

// How many conversations of a swap moved at which level, and the longest pause.
export function movesText(moves, say) {
  const words = LEVELS.map((level) => [level, moves.filter((move) => move.level === level).length])
    .filter(([, count]) => count)
    .map(([level, count]) => `${count} ${say(`level_${level}`)}`);
  const longest = Math.max(0, ...moves.map((move) => move.pause_s ?? 0));
  if (longest) words.push(say("longest_pause", { pause: seconds(longest) }));
  return words.join(" · ");
}

export function moveText(move, say) {
  const words = [move.session || say("one_request"), say(`level_${move.level}`)];
  if (move.positions) words.push(say("positions", { n: move.positions }));
  if (move.bytes) words.push(`${(move.bytes / 1e6).toFixed(1)} MB`);
  if (move.pause_s) words.push(say("pause", { pause: seconds(move.pause_s) }));
  if (move.detail) words.push(move.detail);
  return words.join(" · ");
}

function triggerText(fired, say) {
  const what = fired.dry_run ? "trigger_would" : fired.problem ? "trigger_failed" : "trigger_swaps";
  const way = say(fired.returning ? "back_to" : "to");
  const told = say(what, { trigger: fired.trigger, slot: fired.slot, way, model: fired.model });
  if (fired.problem) return `${told}: ${fired.problem}`;
  if (fired.reading === undefined) return told;
  const bound = fired.bound === undefined ? "" : say("trigger_bound", { bound: fired.bound });
  return `${told}: ${fired.measure} = ${Number(fired.reading.toPrecision(4))}${bound}`;
}

// An event of the kernel.
export function eventText(name, said, say) {
  switch (name) {
    case "swap_advanced":
      return `${said.swap.slot}: ${stepText(said.swap, say)}`;
    case "trigger_fired":
      return triggerText(said, say);
    case "instance_changed":
      return `${said.instance.driver}/${said.instance.model}: ${say(said.instance.state)}`;
    case "model_changed":
      return [said.model.id, say(said.model.state), said.model.reason].filter(Boolean).join(" · ");
    default:
      return [said.model, said.reason].filter(Boolean).join(" · ");
  }
}
