// Side: one reference's answer as it comes, with the headers and the times of its response.

import type { Problem } from "../lib/api.ts";
import { complete, type Asked, type Head, type Timing } from "../lib/completion.ts";
import { seconds } from "../lib/format.ts";
import { Code, Facts } from "../lib/parts.tsx";

const OUTCOMES: Record<string, string> = {
  gpu_hit: "GPU hit: it was in a slot",
  host_hit: "host hit: it was in host memory",
  miss: "miss: it was on disk only",
};

export interface Answer {
  /** Null before the first prompt is sent, empty if nothing was chosen for this side. */
  model: string | null;
  text: string;
  head: Head | null;
  timing: Timing | null;
  /** AbortError if it was stopped. */
  problem: Problem | null;
}

const EMPTY = new Map([
  [null, "No prompt was sent yet."],
  ["", "No reference was chosen for this side."],
]);

export const NO_ANSWER: Answer = { model: null, text: "", head: null, timing: null, problem: null };

/** Shows the answer as it comes, and says how it went; nothing without a reference. */
export async function answer(asked: Asked, signal: AbortSignal, show: (answer: Answer) => void): Promise<string> {
  let now: Answer = { ...NO_ANSWER, model: asked.model };
  const change = (changed: Partial<Answer>) => show((now = { ...now, ...changed }));
  change({});
  if (!asked.model) return "";
  try {
    const onStart = (head: Head) => change({ head });
    const onText = (text: string) => change({ text: now.text + text });
    const timing = await complete(asked, { signal, onStart, onText });
    change({ timing });
    return `answered after ${seconds(timing.totalSeconds)}.`;
  } catch (error) {
    change({ problem: error as Problem });
    return "failed.";
  }
}

export function Side({ letter, answer }: { letter: string; answer: Answer }) {
  const { model, text, head, timing, problem } = answer;
  const isWaiting = Boolean(model) && head === null && problem === null;
  return (
    <section class={model === "" ? "side idle" : "side"} aria-label={`Side ${letter}`}>
      <h2>
        {letter}
        {model && <span class="ref"> {model}</span>}
      </h2>
      <div class="found">
        {isWaiting && "waiting …"}
        {head && <Headers of={head} />}
      </div>
      <pre class="answer" data-empty={EMPTY.get(model) ?? ""} tabIndex={0} role="region" aria-label={`Answer of ${letter}`}>
        {text}
      </pre>
      <div>
        {timing && <Times of={timing} />}
        {problem && <Failure of={problem} />}
      </div>
    </section>
  );
}

function Headers({ of: { version, cache, loadMs, invocation, deprecation } }: { of: Head }) {
  return (
    <>
      <Facts
        of={[
          ["x-adaptry-version", version ?? "none: the base model"],
          ["x-adaptry-cache", cache && <span title={OUTCOMES[cache]}>{cache}</span>],
          ["x-adaptry-load-ms", loadMs],
          ["x-adaptry-invocation", invocation],
          ["x-adaptry-deprecation", deprecation],
        ]}
      />
      {invocation === "missing" && (
        <p>The prompt doesn't have the invocation of this activated adapter: this is the base model's answer.</p>
      )}
    </>
  );
}

function Times({ of: { firstSeconds, totalSeconds, tokens } }: { of: Timing }) {
  const rate = tokens && totalSeconds ? `${(tokens / totalSeconds).toFixed(1)} tokens/s` : null;
  return (
    <Facts
      of={[
        ["First token", seconds(firstSeconds)],
        ["Total", seconds(totalSeconds)],
        ["Tokens", tokens],
        ["Rate", rate],
      ]}
    />
  );
}

function Failure({ of: problem }: { of: Problem }) {
  if (problem.name === "AbortError") return <p class="faint">stopped</p>;
  return (
    <p class="problem-text" role="alert">
      {problem.message} <Code of={problem.code ?? "error"} />
    </p>
  );
}
