// Answers of two versions to the same prompts: differing words are marked, times beside them.

import { useEffect, useState } from "preact/hooks";
import { complete } from "../lib/completion.ts";
import { seconds } from "../lib/format.ts";

interface Props {
  a: string;
  b: string;
  prompts: readonly string[];
  signal: AbortSignal;
}

interface Answer {
  text: string;
  first: number | null;
  total: number;
  problem: string;
}

const MAX_TOKENS = 128;

export function Answers({ a, b, prompts, signal }: Props) {
  const [found, setFound] = useState<Record<string, Answer>>({});
  useEffect(() => {
    const leaving = new AbortController();
    const both = AbortSignal.any([leaving.signal, signal]);
    setFound({});
    void answerAll([a, b], prompts, both, (of, answer) => {
      if (!both.aborted) setFound((before) => ({ ...before, [of]: answer })); // not into the next pair's
    });
    return () => leaving.abort();
  }, [a, b, prompts.join("\n")]);
  return (
    <section>
      <h2>Answers</h2>
      {prompts.map((prompt, n) => (
        <section key={n} class="sides" aria-label={`Prompt ${n + 1}`}>
          {[a, b].map((model, side) => {
            const [own, other] = [found[`${side} ${n}`], found[`${1 - side} ${n}`]];
            return (
              <div key={side} class="side">
                <h3>
                  <span class="ref">{model}</span> <span class="faint">{prompt}</span>
                </h3>
                <p class="answer">{own ? <Marked text={own.text} other={other?.text} /> : "waiting …"}</p>
                {own?.problem && <p class="problem-text">{own.problem}</p>}
                {own && !own.problem && (
                  <p class="faint">
                    first token {seconds(own.first)}, total {seconds(own.total)}
                  </p>
                )}
              </div>
            );
          })}
        </section>
      ))}
    </section>
  );
}

async function answerAll(models: readonly string[], prompts: readonly string[], signal: AbortSignal, onAnswer: (of: string, answer: Answer) => void) {
  for (const [n, prompt] of prompts.entries()) {
    await Promise.all(models.map(async (model, side) => onAnswer(`${side} ${n}`, await answerOf(model, prompt, signal))));
    if (signal.aborted) return;
  }
}

async function answerOf(model: string, prompt: string, signal: AbortSignal): Promise<Answer> {
  let text = "";
  try {
    const given = { kind: "completions", model, prompt, maxTokens: MAX_TOKENS, temperature: 0 } as const;
    const timing = await complete(given, { signal, onStart: () => {}, onText: (more: string) => (text += more) });
    return { text, first: timing.firstSeconds, total: timing.totalSeconds, problem: "" };
  } catch (error) {
    return { text, first: null, total: 0, problem: (error as Error).message };
  }
}

/** Words that the other answer doesn't have at that place. */
function Marked({ text, other }: { text: string; other: string | undefined }) {
  const [words, others] = [text.split(/(?<=\s)/), other?.split(/(?<=\s)/)];
  return <>{words.map((word, n) => (others && others[n] !== word ? <mark key={n}>{word}</mark> : word))}</>;
}
